"""Where somebody speaks from: the peer of the connection, never what a header says."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Network = IPv4Network | IPv6Network
_SITE: Final = 64
"""Bits of an IPv6 address that a network gives out; whoever has one address has all the others."""


def source_of(peer: str | None, uncounted: Sequence[Network]) -> str | None:
    """What to count a peer under: its IPv4 address or its IPv6 network.

    None where the peer says nothing about the asker: a proxy of ours, or this machine itself.
    """
    try:
        address = ip_address((peer or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if any(address in network for network in uncounted):
        return None
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SITE), strict=False))
    return str(address)
