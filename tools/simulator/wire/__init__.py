"""The protocol's bytes from the device's side: ASN.1, CMS, SCEP and profiles."""

from __future__ import annotations
