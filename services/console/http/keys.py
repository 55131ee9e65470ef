"""Where handlers find the console's parts."""

from __future__ import annotations

from aiohttp import web

from services.console.asking import Asking
from services.console.audit.exporting import Exporting
from services.console.audit.naming import Naming
from services.console.audit.searching import Audit
from services.console.audit.standing import Standings
from services.console.bundle import Bundle
from services.console.directory import Directory
from services.console.granting import Granting
from services.console.identity.entering import Entering
from services.console.identity.linking import Linking
from services.console.identity.providers import Providers
from services.console.own_factors import OwnFactors
from services.console.own_password import OwnPassword
from services.console.saved_views import SavedViews
from services.console.sealed import Sealed
from services.console.sessions import Sessions
from services.console.setup import Setup
from services.console.signing_in import SigningIn
from services.console.step_up import StepUp
from services.console.tickets import Tickets
from services.console.tokens import Tokens
from services.console.views.live import Hub
from services.console.views.queries import Views
from services.console.views.selection import Selection
from services.console.webhooks.sending import Sending
from services.console.webhooks.settings import Webhooks
from shared.sealed import LocalCipher

SETUP = web.AppKey("console.setup", Setup)
AUDIT = web.AppKey("console.audit", Audit)
EVIDENCE = web.AppKey("console.evidence", Exporting)
NAMING = web.AppKey("console.naming", Naming)
STANDINGS = web.AppKey("console.standings", Standings)
SESSIONS = web.AppKey("console.sessions", Sessions)
ASKING = web.AppKey("console.asking", Asking)
VIEWS = web.AppKey("console.views", Views)
FORMS = web.AppKey("console.forms", LocalCipher)
"""Encrypts what forms keep between two pages."""
HUB = web.AppKey("console.hub", Hub)
SIGNING_IN = web.AppKey("console.signing_in", SigningIn)
STEP_UP = web.AppKey("console.step_up", StepUp)
OWN_FACTORS = web.AppKey("console.own_factors", OwnFactors)
OWN_PASSWORD = web.AppKey("console.own_password", OwnPassword)
SEALED = web.AppKey("console.sealed", Sealed)
DIRECTORY = web.AppKey("console.directory", Directory)
GRANTING = web.AppKey("console.granting", Granting)
PROVIDERS = web.AppKey("console.providers", Providers)
ENTERING = web.AppKey("console.entering", Entering)
LINKING = web.AppKey("console.linking", Linking)
TICKETS = web.AppKey("console.tickets", Tickets)
WEBHOOKS = web.AppKey("console.webhooks", Webhooks)
SENDING = web.AppKey("console.sending", Sending)
CONSOLE_URL = web.AppKey("console.url", str)
TOKENS = web.AppKey("console.tokens", Tokens)
BUNDLE = web.AppKey("console.bundle", Bundle)
SELECTION = web.AppKey("console.selection", Selection)
SAVED_VIEWS = web.AppKey("console.saved_views", SavedViews)
