"""Pages about identity providers, and about the identities of other people."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.directory import WRITE as WRITE_PEOPLE
from services.console.http.keys import DIRECTORY, LINKING, PROVIDERS, TICKETS
from services.console.http.pages import go_to, page, parse_form, permitted_page, person
from services.console.http.people import READ
from services.console.http.step_up import confirmed
from services.console.identity.providers import WRITE
from shared.runtime.http import path_id

_PAGE = "/settings/identity"
_PERSON = "/settings/people/{account_id}"
_ClientId = Annotated[str, Field(min_length=1, max_length=300)]
_Subject = Annotated[str, Field(min_length=1, max_length=255)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProviderForm(_Form):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    issuer: Annotated[str, Field(min_length=1, max_length=300)]


class ClientForm(_Form):
    client_id: _ClientId


class SecretForm(ClientForm):
    ticket: Annotated[str, Field(max_length=100, repr=False)]
    secret: Annotated[str, Field(min_length=1, max_length=1000, repr=False)]


class UseForm(_Form):
    enabled: bool = False
    newcomers: bool = False


class SubjectForm(_Form):
    subject: _Subject


async def list_providers(request: web.Request) -> web.StreamResponse:
    """GET /settings/identity."""
    providers = await request.config_dict[PROVIDERS].every()
    return page(request, "identity/providers.html", providers=providers)


async def add(request: web.Request) -> web.StreamResponse:
    """POST /settings/identity: a provider that is not in use yet."""
    form, who = parse_form(request, ProviderForm), person(request)
    providers = request.config_dict[PROVIDERS]
    await providers.check(form.issuer)
    await confirmed(request, f"Know {form.issuer} as an identity provider, “{form.name}”")
    provider_id = await providers.add(who, form.name, form.issuer)
    return go_to(f"{_PAGE}/{provider_id}")


async def show(request: web.Request) -> web.StreamResponse:
    """GET /settings/identity/{provider_id}."""
    providers = request.config_dict[PROVIDERS]
    provider = await providers.one(path_id(request, "provider_id"))
    redirect_uri = providers.redirect_uri(provider.provider_id)
    return page(request, "identity/provider.html", provider=provider, redirect_uri=redirect_uri)


async def begin_client(request: web.Request) -> web.StreamResponse:
    """POST /settings/identity/{provider_id}/client: after a step-up, the form for the secret."""
    form, who = parse_form(request, ClientForm), person(request)
    provider = await request.config_dict[PROVIDERS].one(path_id(request, "provider_id"))
    await confirmed(request, f"Let Muster be {form.client_id} at {provider.issuer}")
    ticket = await request.config_dict[TICKETS].give(who, _client(request, form))
    return page(
        request,
        "identity/secret.html",
        provider=provider,
        client_id=form.client_id,
        ticket=ticket,
    )


async def set_client(request: web.Request) -> web.StreamResponse:
    """POST /settings/identity/{provider_id}/secret: what the ticket was given for."""
    form, who = parse_form(request, SecretForm), person(request)
    provider_id = path_id(request, "provider_id")
    await request.config_dict[TICKETS].take(who, _client(request, form), form.ticket)
    providers = request.config_dict[PROVIDERS]
    await providers.set_client(who, provider_id, form.client_id, form.secret)
    return go_to(f"{_PAGE}/{provider_id}")


async def use(request: web.Request) -> web.StreamResponse:
    """POST /settings/identity/{provider_id}/use."""
    form, who = parse_form(request, UseForm), person(request)
    providers = request.config_dict[PROVIDERS]
    provider = await providers.one(path_id(request, "provider_id"))
    may = "may" if form.enabled else "may not"
    more = ", also those whom nobody linked" if form.enabled and form.newcomers else ""
    await confirmed(request, f"People {may} sign in by {provider.issuer}{more}")
    values = {"enabled": form.enabled, "newcomers": form.newcomers}
    await providers.set_use(who, provider.provider_id, **values)
    return go_to(f"{_PAGE}/{provider.provider_id}")


async def show_identities(request: web.Request) -> web.StreamResponse:
    """GET /settings/people/{account_id}/identities."""
    account, _ = await request.config_dict[DIRECTORY].one(path_id(request, "account_id"))
    identities = await request.config_dict[LINKING].of(account.account_id)
    providers = await request.config_dict[PROVIDERS].in_use()
    return page(
        request,
        "identity/of_person.html",
        account=account,
        identities=identities,
        providers=providers,
    )


async def link(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/identities/{provider_id}/link."""
    form, who = parse_form(request, SubjectForm), person(request)
    account, _ = await request.config_dict[DIRECTORY].one(path_id(request, "account_id"))
    provider = await request.config_dict[PROVIDERS].one(path_id(request, "provider_id"))
    act = f"Let {form.subject} of {provider.issuer} sign in to the account of {account.name}"
    await confirmed(request, act)
    linking = request.config_dict[LINKING]
    await linking.link(who, account.account_id, provider.provider_id, form.subject)
    return go_to(f"/settings/people/{account.account_id}/identities")


async def unlink(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/identities/{provider_id}/unlink."""
    form, who = parse_form(request, SubjectForm), person(request)
    account, _ = await request.config_dict[DIRECTORY].one(path_id(request, "account_id"))
    provider_id = path_id(request, "provider_id")
    await confirmed(request, f"Let {form.subject} sign in to the account of {account.name} no more")
    await request.config_dict[LINKING].unlink(who, account.account_id, provider_id, form.subject)
    return go_to(f"/settings/people/{account.account_id}/identities")


def _client(request: web.Request, form: ClientForm) -> str:
    return f"client:{request.match_info['provider_id']}:{form.client_id}"


_page = partial(permitted_page, max_body=16384)
_ONE = f"{_PAGE}/{{provider_id}}"
_OF = f"{_PERSON}/identities"
ROUTES = (
    _page("GET", _PAGE, list_providers, READ, "Identity providers"),
    _page("POST", _PAGE, add, WRITE, "Make an identity provider known"),
    _page("GET", _ONE, show, READ, "An identity provider"),
    _page("POST", f"{_ONE}/client", begin_client, WRITE, "Begin to set what Muster is there"),
    _page("POST", f"{_ONE}/secret", set_client, WRITE, "Set what Muster is there"),
    _page("POST", f"{_ONE}/use", use, WRITE, "Use a provider, or not"),
    _page("GET", _OF, show_identities, READ, "Somebody's identities"),
    _page("POST", f"{_OF}/{{provider_id}}/link", link, WRITE_PEOPLE, "Link an identity"),
    _page("POST", f"{_OF}/{{provider_id}}/unlink", unlink, WRITE_PEOPLE, "Unlink an identity"),
)
