"""What a service knows of devices, by id: for tables whose service knows only ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tools.cli.client import Client

_ONE = {"inventory": "/devices/{}", "compliance": "/devices/{}/verdicts"}
_PAGE = 500


def of_devices(client: Client, service: str, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A row a device that the service knows.

    A small fleet is one page; of a larger one the devices that are not on it are asked for alone.
    """
    wanted = set(ids)
    if not wanted:
        return {}
    page = list(client.pages(service, "/devices", most=_PAGE))
    found = {row["device_id"]: row for row in page if row["device_id"] in wanted}
    if len(page) == _PAGE:
        missing = sorted(wanted - found.keys())
        more = client.several(service, [_ONE[service].format(one) for one in missing])
        found |= {row["device_id"]: row for row in more if row is not None}
    return found
