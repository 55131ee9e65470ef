"""Requests from devices, people and other services: parse, call, render."""

from __future__ import annotations
