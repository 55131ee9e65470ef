"""Which addresses may be dialled for somebody who is not us, judged at the very connect."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Final

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""As `getaddrinfo` has it."""

LOOPBACK: Final[tuple[Network, ...]] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_UNICAST: Final = IPv6Network("2000::/3")
# They carry an IPv4 address inside, which a relay on the way would dial.
_TUNNELS: Final = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))


class AddressRefused(OSError):  # noqa: N818 (it says what happened)
    """Not to be dialled. Without the address: who asks must not learn what our names resolve to."""

    def __init__(self) -> None:
        super().__init__("the address is private, or not one to call")


class Dialling:
    """Public addresses, and those in `networks`."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def may(self, address: Address) -> bool:
        """Whether it may be dialled; an IPv4 address in IPv6's clothes is judged as what it is."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._networks):
            return True
        if isinstance(address, IPv4Address):
            return address.is_global and not address.is_multicast
        public = address in _UNICAST and address.is_global
        return public and not any(address in tunnel for tunnel in _TUNNELS)

    def socket_for(self, info: AddrInfo) -> socket.socket:
        """The socket that aiohttp dials this with: every connect passes here, whether a name was
        resolved or the address stood in the URL, and what is judged is what is dialled.
        """
        family, kind, protocol, _, place = info
        if not self.may(ip_address(str(place[0]))):
            raise AddressRefused
        return socket.socket(family, kind, protocol)
