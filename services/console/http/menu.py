"""The console's menu: screens that exist. Who may not use one sees it, disabled, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    title: str
    path: str
    icon: str
    """A name in assets/icons.txt."""
    permission: str | None = None
    """None: everybody who is signed in."""


MENU = (
    Entry("Overview", "/", "home"),
    Entry("Devices", "/devices", "devices", "inventory.read"),
    Entry("Groups", "/groups", "users-group", "group.read"),
    Entry("Commands", "/commands", "send", "command.read"),
    Entry("Policies", "/policies", "checklist", "compliance.read"),
    Entry("Approvals", "/approvals", "shield-check", "command.read"),
    Entry("Enrollment", "/enrollment", "qrcode", "enrollment.read"),
    Entry("Audit", "/audit", "history", "audit.read"),
    Entry("People", "/settings/people", "users", "people.read"),
    Entry("Roles", "/settings/roles", "shield-lock", "people.read"),
    Entry("Budgets", "/settings/budgets", "shield", "command.read"),
    Entry("Webhooks", "/settings/webhooks", "webhook", "webhook.read"),
    Entry("Identity providers", "/settings/identity", "key", "people.read"),
)
