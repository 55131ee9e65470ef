"""Every permission there is, by the service that asks for it, and what the built-in roles hold.

A test compares this with the routes of all services: none is forgotten, none is of nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

PERMISSIONS: Mapping[str, Mapping[str, str]] = {
    "enrollment": {
        "enrollment.read": "See credentials, devices and certificates",
        "enrollment.credential.write": "Make and revoke enrollment credentials",
        "enrollment.serial.write": "Say which hardware may enroll, by serial",
        "enrollment.device.write": "Change a device's ownership, user and tags",
        "lobby.decide": "Let in or refuse what waits in the lobby",
        "enrollment.revoke": "End a device's management",
        "enrollment.renew": "Make a renewal profile",
        "enrollment.import": "Take over devices of another server",
    },
    "command_queue": {
        "command.read": "See commands and their outcomes",
        "command.request": "Send commands to devices, of the kinds below",
        "command.inventory.refresh": "Have devices asked what they are",
        "command.device.lock": "Lock devices",
        "command.device.restart": "Restart devices",
        "command.device.shutdown": "Shut devices down",
        "command.device.clear_passcode": "Clear passcodes",
        "command.device.erase": "Erase devices",
        "command.lost_mode.enable": "Turn lost mode on",
        "command.lost_mode.disable": "Turn lost mode off",
        "command.lost_mode.play_sound": "Have lost devices play a sound",
        "command.configuration.install": "Install profiles",
        "command.configuration.remove": "Remove profiles",
        "command.raw": "Send commands of one's own making",
        "command.cancel": "Cancel commands",
        "command.approve": "Let held commands run, with a key of one's own, or refuse them",
        "guard.freeze": "Freeze all commands",
        "guard.unfreeze": "Lift a freeze",
        "secret.reveal": "Be shown PINs that devices were locked by",
    },
    "push_notifier": {
        "push.read": "See push certificates and what was sent",
        "push.certificate": "Request and replace the push certificate",
        "push.wake": "Wake a device",
    },
    "inventory": {
        "inventory.read": "See devices and what is known of them",
        "inventory.refresh": "Ask devices to report again",
        "group.read": "See static groups and their members",
        "group.write": "Make, change and delete static groups",
        "group.members": "Put devices into groups and take them out",
    },
    "compliance": {
        "compliance.read": "See policies and verdicts",
        "compliance.write": "Write policies",
    },
    "configuration": {},
    "console": {
        "audit.read": "See what everybody did",
        "people.read": "See accounts, roles and who holds them",
        "people.write": "Make, disable and reset accounts",
        "role.grant": "Give and take roles",
        "role.write": "Make and change roles",
        "identity.write": "Change which identity providers say who people are",
        "webhook.read": "See webhooks and what they were told",
        "webhook.write": "Make and change webhooks, and send events again",
        "token.write": "Make API tokens of one's own",
        "inventory.read": "See devices and what is known of them",
        "compliance.read": "See policies and verdicts",
        "compliance.write": "Write policies",
        "command.read": "See commands and their outcomes",
        "command.request": "Send commands to devices, of the kinds below",
        "command.approve": "Let held commands run, with a key of one's own, or refuse them",
        "guard.freeze": "Freeze all commands",
        "guard.unfreeze": "Lift a freeze",
        "command.cancel": "Cancel commands",
        "secret.reveal": "Be shown PINs that devices were locked by",
        "inventory.refresh": "Ask devices to report again",
        "push.wake": "Wake a device",
        "group.read": "See static groups and their members",
        "group.write": "Make, change and delete static groups",
        "group.members": "Put devices into groups and take them out",
        "enrollment.read": "See credentials, devices and certificates",
        "enrollment.credential.write": "Make and revoke enrollment credentials",
        "lobby.decide": "Let in or refuse what waits in the lobby",
        "push.certificate": "Request and replace the push certificate",
    },
}
"""Service, permission, what it lets somebody do."""

_READ = frozenset(
    {
        "enrollment.read",
        "command.read",
        "push.read",
        "inventory.read",
        "group.read",
        "compliance.read",
    }
)
_HELP_DESK = _READ | {
    "command.request",
    "command.inventory.refresh",
    "command.device.lock",
    "command.device.restart",
    "command.device.clear_passcode",
    "command.lost_mode.enable",
    "command.lost_mode.disable",
    "command.lost_mode.play_sound",
    "push.wake",
    "inventory.refresh",
}
_OPERATOR = _HELP_DESK | {
    "command.cancel",
    "command.device.shutdown",
    "command.configuration.install",
    "command.configuration.remove",
    "guard.freeze",
    "enrollment.credential.write",
    "enrollment.serial.write",
    "enrollment.device.write",
    "enrollment.renew",
    "token.write",
}
FOR_PEOPLE_ONLY = frozenset(
    {
        "command.approve",
        "guard.unfreeze",
        "identity.write",
        "people.write",
        "role.grant",
        "role.write",
        "token.write",
        "secret.reveal",
        "webhook.write",
    }
)
"""Never in an access token made from an API token (security design, "People")."""
ALL = frozenset(name for of_service in PERMISSIONS.values() for name in of_service)
OWNER = "owner"
BUILT_IN: Mapping[str, frozenset[str]] = {
    OWNER: ALL,
    "admin": ALL - {"guard.unfreeze"},
    "operator": _OPERATOR,
    "help_desk": _HELP_DESK,
    "auditor": _READ | {"audit.read", "people.read"},
    "read_only": _READ,
}


def held_by(role_id: str, *, built_in: bool, custom: frozenset[str]) -> frozenset[str]:
    """What a role holds now; a permission that no longer exists is held by nobody."""
    return (BUILT_IN.get(role_id, frozenset()) if built_in else custom) & ALL
