"""The console, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from aiohttp import web

from services.console import bundle
from services.console.asking import Asking
from services.console.audit.exporting import Exporting
from services.console.audit.naming import Naming
from services.console.audit.searching import Audit
from services.console.audit.standing import Standings
from services.console.bundle import Bundle
from services.console.codes import Codes
from services.console.consumers import HANDLERS
from services.console.directory import Directory
from services.console.granting import Granting
from services.console.http import (
    approvals,
    assets,
    audit_api,
    audit_page,
    budgets,
    bulk,
    command_page,
    commands,
    device_actions,
    device_asked,
    device_page,
    device_pages,
    device_secrets,
    devices,
    enrollment,
    groups,
    identity,
    keys,
    lobby,
    newcomers,
    overview,
    overview_page,
    own,
    own_factors,
    own_identities,
    own_password,
    people,
    people_api,
    policies,
    providers,
    providers_api,
    saved_views,
    sealed,
    step_up,
    tokens,
    webhooks,
    webhooks_api,
)
from services.console.http import signing_in as sign_in_pages
from services.console.http.door import ConsoleDoor
from services.console.identity.discovery import Discovery
from services.console.identity.entering import Entering
from services.console.identity.exchange import Exchange
from services.console.identity.flows import Flows
from services.console.identity.linking import Linking
from services.console.identity.providers import Providers
from services.console.jobs import jobs_of
from services.console.own_factors import OwnFactors
from services.console.own_password import OwnPassword
from services.console.passkeys import Passkeys
from services.console.passwords import Passwords
from services.console.saved_views import SavedViews
from services.console.sealed import Sealed
from services.console.sessions import Sessions
from services.console.settings import ConsoleSettings
from services.console.setup import Setup
from services.console.signing_in import SigningIn
from services.console.step_up import StepUp
from services.console.store.encrypted import ENCRYPTED
from services.console.throttling import Throttle
from services.console.tickets import Tickets
from services.console.tokens import Tokens
from services.console.views.live import Announcer, Hub
from services.console.views.queries import Views
from services.console.views.selection import Selection
from services.console.webhooks.keeping import Keeping
from services.console.webhooks.sending import Sending
from services.console.webhooks.settings import Webhooks
from shared.db.pool import Pool
from shared.runtime import outbound
from shared.runtime.clock import Clock
from shared.runtime.service import Context, Parts, Service
from shared.sealed import WEBHOOK_KEYS, LocalCipher

Values = dict[web.AppKey[Any], Any]


@asynccontextmanager
async def build(context: Context[ConsoleSettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    sessions, throttle, passwords = Sessions(pool, clock), Throttle(pool, clock), Passwords()
    codes = Codes(pool, clock, context.cipher)
    passkeys = Passkeys(pool, clock, settings.address)
    signing_in = SigningIn(pool, sessions, passwords, throttle, codes, passkeys)
    hub = Hub(settings.database_url)
    emergency = Sealed(pool, clock, sessions, passkeys, throttle)
    directory = Directory(pool, clock, passwords, sessions)
    for_webhooks = LocalCipher.load(settings.keys_dir / WEBHOOK_KEYS)
    keeping = Keeping(clock)
    async with (
        Announcer(pool).running(),
        hub.running(),
        outbound.opened(settings) as client,
        aclosing(Sending(pool, clock, for_webhooks, client)) as sending,
    ):
        discovery = Discovery(client)
        known = Providers(pool, clock, context.cipher, discovery, settings.address)
        flows = Flows(pool, clock, known, discovery, Exchange(client, discovery))
        yield Parts(
            values={
                **_by_themselves(context),
                **_of_oneself(pool, clock, sessions, throttle, passwords, signing_in),
                keys.SEALED: emergency,
                keys.WEBHOOKS: Webhooks(pool, clock, for_webhooks, client, keeping),
                keys.SENDING: sending,
                keys.DIRECTORY: directory,
                keys.PROVIDERS: known,
                keys.ENTERING: Entering(pool, clock, flows, directory, sessions, throttle),
                keys.LINKING: Linking(pool, clock, known),
                keys.TOKENS: Tokens(pool, clock, context.tokens.signer, throttle),
                keys.HUB: hub,
            },
            handlers=keeping.beside(HANDLERS),
            jobs=jobs_of(
                sessions, throttle, flows, codes, emergency, sending, settings, pool, clock
            ),
            door=ConsoleDoor(sessions, known, settings.address),
        )


def _by_themselves(context: Context[ConsoleSettings]) -> Values:
    """The parts that need none of the others."""
    settings, pool, clock = context.settings, context.pool, context.clock
    return {
        keys.AUDIT: Audit(pool),
        keys.EVIDENCE: Exporting(pool, clock),
        keys.NAMING: Naming(pool),
        keys.STANDINGS: Standings(pool, clock),
        keys.TICKETS: Tickets(pool, clock),
        keys.GRANTING: Granting(pool, clock),
        keys.CONSOLE_URL: settings.address,
        keys.ASKING: Asking(context.internal, context.tokens.signer),
        keys.BUNDLE: Bundle.load(settings.assets_dir, bundle.OWN),
        keys.VIEWS: Views(pool, clock),
        keys.SELECTION: Selection(pool, clock),
        keys.SAVED_VIEWS: SavedViews(pool, clock),
        keys.FORMS: context.cipher,
    }


def _of_oneself(
    pool: Pool,
    clock: Clock,
    sessions: Sessions,
    throttle: Throttle,
    passwords: Passwords,
    signing_in: SigningIn,
) -> Values:
    """Who one is, by what one proves it, and how that is changed."""
    return {
        keys.SETUP: Setup(pool, clock, passwords, sessions),
        keys.SESSIONS: sessions,
        keys.SIGNING_IN: signing_in,
        keys.STEP_UP: StepUp(pool, clock, sessions, signing_in, throttle),
        keys.OWN_FACTORS: OwnFactors(pool, signing_in),
        keys.OWN_PASSWORD: OwnPassword(pool, clock, passwords, sessions, throttle),
    }


SERVICE = Service(
    name="console",
    summary="People: set-up, tokens, audit, lists of devices",
    settings=ConsoleSettings,
    build=build,
    encrypted=ENCRYPTED,
    routes=(
        *audit_api.ROUTES,
        *audit_page.ROUTES,
        *assets.ROUTES,
        *own.ROUTES,
        *own_factors.ROUTES,
        *own_identities.ROUTES,
        *own_password.ROUTES,
        *identity.ROUTES,
        *providers.ROUTES,
        *providers_api.ROUTES,
        *sealed.ROUTES,
        *people.ROUTES,
        *people_api.ROUTES,
        *sign_in_pages.ROUTES,
        *step_up.ROUTES,
        *tokens.ROUTES,
        *webhooks.ROUTES,
        *webhooks_api.ROUTES,
        *devices.ROUTES,
        *overview.ROUTES,
        *overview_page.ROUTES,
        *device_pages.ROUTES,
        *newcomers.ROUTES,
        *saved_views.ROUTES,
        *device_page.ROUTES,
        *device_asked.ROUTES,
        *device_actions.ROUTES,
        *device_secrets.ROUTES,
        *bulk.ROUTES,
        *budgets.ROUTES,
        *groups.ROUTES,
        *policies.ROUTES,
        *approvals.ROUTES,
        *commands.ROUTES,
        *enrollment.ROUTES,
        *lobby.ROUTES,
        *command_page.ROUTES,
    ),
)
