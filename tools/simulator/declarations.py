"""Declarative management from the device's side: tokens, items, declarations, status report.

Source: Apple schema, declarative/protocol/*.yaml and mdm/checkin/declarativemanagement.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tools.simulator.device import SimulatedDevice

_KINDS = {
    "Activations": "activation",
    "Assets": "asset",
    "Configurations": "configuration",
    "Management": "management",
}
_CLIENT_PAYLOADS = {
    "declarations": {
        "activations": ["com.apple.activation.simple"],
        "assets": ["com.apple.asset.data", "com.apple.asset.useridentity"],
        "configurations": [
            "com.apple.configuration.management.status-subscriptions",
            "com.apple.configuration.passcode.settings",
            "com.apple.configuration.softwareupdate.enforcement.specific",
        ],
        "management": [
            "com.apple.management.organization-info",
            "com.apple.management.properties",
        ],
    },
    "status-items": [
        "device.identifier.serial-number",
        "device.identifier.udid",
        "device.model.family",
        "device.operating-system.version",
        "management.client-capabilities",
        "management.declarations",
    ],
}


async def synchronize(device: SimulatedDevice, data: bytes | None = None) -> None:
    """Fetch what changed and report: what a device does after the command DeclarativeManagement.

    `data` is the tokens document that the command may carry. What the server answers against the
    protocol becomes a complaint of the device.
    """
    tokens = _json(data) if data else await _ask(device, "tokens")
    token = _get(tokens, "SyncTokens", "DeclarationsToken")
    if not isinstance(token, str):
        device.complaints["declarations: tokens without DeclarationsToken"] += 1
        return
    if token == device.state.declarations_token:
        return
    items = await _ask(device, "declaration-items")
    wanted = _get(items, "Declarations")
    if not isinstance(wanted, dict) or not _is_manifest(wanted):
        device.complaints["declarations: the four arrays are not all there"] += 1
        return
    for kind, word in _KINDS.items():
        device.state.declarations[kind.lower()] = await _fetch(device, word, wanted[kind])
    # Both documents come from one snapshot or devices loop (apple.md 1.9).
    if _get(items, "DeclarationsToken") != token:
        device.complaints["declarations: tokens and items disagree"] += 1
    device.state.declarations_token = _get(items, "DeclarationsToken")
    await report_status(device)


def _is_manifest(wanted: Mapping[str, Any]) -> bool:
    """All four arrays, of dictionaries with an identifier and a server token."""
    return set(wanted) == set(_KINDS) and all(
        isinstance(_get(item, key), str)
        for items in wanted.values()
        for item in items
        for key in ("Identifier", "ServerToken")
    )


async def report_status(device: SimulatedDevice) -> None:
    """A full status report."""
    document = {"StatusItems": _status(device), "Errors": [], "FullReport": True}
    message = device.message(
        "DeclarativeManagement", Endpoint="status", Data=json.dumps(document).encode()
    )
    reply = await device.checkin(message)
    if not reply.ok or reply.body:
        device.complaints[f"declarations: status answered {reply.status}"] += 1


async def _fetch(
    device: SimulatedDevice, word: str, items: list[Mapping[str, str]]
) -> dict[str, str]:
    """Fetch each declaration of one kind; identifier to server token of those that came."""
    found = {}
    for item in items:
        identifier = item["Identifier"]
        declaration = await _ask(device, f"declaration/{word}/{identifier}")
        if _get(declaration, "ServerToken") != item["ServerToken"]:
            device.complaints["declarations: one has another ServerToken than its list"] += 1
            continue
        found[identifier] = item["ServerToken"]
    return found


async def _ask(device: SimulatedDevice, endpoint: str) -> dict[str, Any]:
    reply = await device.checkin(device.message("DeclarativeManagement", Endpoint=endpoint))
    if not reply.ok:
        step = endpoint.partition("/")[0]
        device.complaints[f"declarations: {step} answered {reply.status}"] += 1
        return {}
    return _json(reply.body)


def _json(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _get(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _status(device: SimulatedDevice) -> dict[str, Any]:
    traits = device.traits
    family = "Mac" if traits.is_mac else traits.model.model_name
    return {
        "device": {
            "identifier": {"serial-number": traits.serial, "udid": traits.udid},
            "model": {"family": family, "identifier": traits.model.product_name},
            "operating-system": {
                "version": traits.release.version,
                "build-version": traits.release.build,
            },
        },
        "management": {
            "client-capabilities": {
                "supported-versions": ["1.0.0"],
                "supported-payloads": _CLIENT_PAYLOADS,
                "supported-features": {},
            },
            "declarations": {
                kind.lower(): [
                    {
                        "identifier": identifier,
                        "server-token": token,
                        "active": True,
                        "valid": "valid",
                    }
                    for identifier, token in device.state.declarations.get(kind.lower(), {}).items()
                ]
                for kind in _KINDS
            },
        },
    }
