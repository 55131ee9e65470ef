"""From an Authenticate to a claim: what it says, in Muster's own words."""

from __future__ import annotations

from services.enrollment.apple.messages import Authenticate
from services.enrollment.lifecycle import Claim
from shared.events.devices import Platform

# By the beginning of ProductName (`iPhone15,2`), the longest first where one begins another.
_PRODUCTS = (
    ("iPhone", Platform.IOS),
    ("iPod", Platform.IOS),
    ("iPad", Platform.IPADOS),
    ("AppleTV", Platform.TVOS),
    ("RealityDevice", Platform.VISIONOS),
    ("Watch", Platform.WATCHOS),
    ("MacBook", Platform.MACOS),
    ("iMac", Platform.MACOS),
    ("Macmini", Platform.MACOS),
    ("MacPro", Platform.MACOS),
    ("VirtualMac", Platform.MACOS),
    ("VMware", Platform.MACOS),
    ("Parallels", Platform.MACOS),
    ("Mac", Platform.MACOS),
)


def claim_of(message: Authenticate, address: str | None = None) -> Claim:
    """Read a claim; nothing in it is proven but where it came from."""
    facts = {
        "name": message.device_name,
        "model": message.model,
        "model_name": message.model_name,
        "product": message.product_name,
        "os_version": message.os_version,
        "build": message.build_version,
        "imei": message.imei,
        "meid": message.meid,
        "topic": message.topic,
    }
    return Claim(
        id_kind=message.channel.device_kind,
        udid=message.channel.device_key,
        serial=message.serial_number,
        platform=platform_of(message.product_name or message.model_name or ""),
        facts={name: value for name, value in facts.items() if value is not None},
        address=address,
    )


def platform_of(product: str) -> Platform:
    """The platform of a product or model name."""
    for beginning, platform in _PRODUCTS:
        if product.startswith(beginning):
            return platform
    return Platform.UNKNOWN
