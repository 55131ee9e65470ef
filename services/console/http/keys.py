"""Where handlers find the console's parts."""

from __future__ import annotations

from aiohttp import web

from services.console.asking import Asking
from services.console.auditing import Audit
from services.console.bundle import Bundle
from services.console.sessions import Sessions
from services.console.setup import Setup

SETUP = web.AppKey("console.setup", Setup)
AUDIT = web.AppKey("console.audit", Audit)
SESSIONS = web.AppKey("console.sessions", Sessions)
ASKING = web.AppKey("console.asking", Asking)
BUNDLE = web.AppKey("console.bundle", Bundle)
