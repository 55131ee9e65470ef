"""Apple devices' answers as vendor-neutral readings: pure functions over the plist's own keys.

Answers come as JSON: bytes as {"$data": base64}, dates as ISO text. A device is hostile: values of
a wrong type are ignored and counted, and no answer raises anything but UnreadableError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.inventory.apple import certificates, device_information, lists, security
from services.inventory.readings import Reading
from shared.events.inventory import Section

_READERS: Final[Mapping[Section, Callable[[Mapping[str, Any]], Reading]]] = {
    "device_information": device_information.read,
    "security": security.read,
    "applications": lists.applications,
    "profiles": lists.profiles,
    "certificates": certificates.read,
}


def read(section: Section, answer: Mapping[str, Any]) -> Reading:
    """Translate the answer to the command that asks for `section`.

    Raises UnreadableError when its main key is missing or is not what Apple documents.
    """
    return _READERS[section](answer)
