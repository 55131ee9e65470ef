"""What the console does with events."""

from __future__ import annotations

from services.console import auditing
from shared.bus import Handlers
from shared.events.audit import AuditRecorded

HANDLERS: Handlers = {AuditRecorded: auditing.record}
