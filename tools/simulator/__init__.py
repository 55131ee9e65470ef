"""A simulated fleet of iPhones, iPads and Macs: the device's side of the protocol.

It imports nothing of Muster's: its own ASN.1, CMS, SCEP and profile reading are there to catch
the server's mistakes.
"""

from __future__ import annotations
