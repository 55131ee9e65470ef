"""Pages about people: accounts, the roles they hold and where, links that let them in."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.granting import GRANT
from services.console.http.browsers import sign_in_browser, visit
from services.console.http.keys import CONSOLE_URL, DIRECTORY, GRANTING, SEALED
from services.console.http.pages import go_to, page, parse_form, permitted_page, person
from services.console.http.step_up import confirmed
from services.console.permissions import PERMISSIONS
from shared.runtime.http import Page, parse_query, path_id
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

READ, WRITE, WRITE_ROLE = "people.read", "people.write", "role.write"
_PEOPLE, _ROLES = "/settings/people", "/settings/roles"
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^\s@]+@[^\s@]+$")]
_RoleId = Annotated[str, Field(min_length=1, max_length=100)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InviteForm(_Form):
    name: _Name
    email: _Email
    role: _RoleId
    group: UUID | None = None


class GrantForm(_Form):
    role: _RoleId
    group: UUID | None = None


class RoleForm(_Form):
    name: _Name
    permission: list[_RoleId] = []


class PasswordForm(_Form):
    password: Annotated[str, Field(max_length=1000, repr=False)] = ""


async def list_people(request: web.Request) -> web.StreamResponse:
    """GET /settings/people."""
    query, directory = parse_query(request, Page), request.config_dict[DIRECTORY]
    found, held = await directory.page(query.after_id(), query.limit + 1)
    rows, following = page_of(found, query.limit, lambda row: [row.account_id])
    return page(
        request,
        "people/list.html",
        accounts=rows,
        held=held,
        next=following,
        **await _choices(request),
    )


async def show_person(request: web.Request) -> web.StreamResponse:
    """GET /settings/people/{account_id}."""
    account, grants = await request.config_dict[DIRECTORY].one(path_id(request, "account_id"))
    choices = await _choices(request)
    return page(request, "people/one.html", account=account, grants=grants, **choices)


async def invite(request: web.Request) -> web.StreamResponse:
    """POST /settings/people: a new account, and the link that opens it."""
    form, who = parse_form(request, InviteForm), person(request)
    place = await where(request, form.group)
    await confirmed(request, f"Make an account for {form.name}, as {form.role}, {place}")
    account_id, token = await request.config_dict[DIRECTORY].invite(
        who, form.name, form.email, form.role, form.group
    )
    return show_link(request, account_id, form.name, token)


async def reset(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/reset: forget password and factors, make a link."""
    who, directory = person(request), request.config_dict[DIRECTORY]
    account, _ = await directory.one(path_id(request, "account_id"))
    await confirmed(request, f"Reset how {account.name} signs in")
    token = await directory.reset(who, account.account_id)
    return show_link(request, account.account_id, account.name, token)


async def disable(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/disable."""
    who, directory = person(request), request.config_dict[DIRECTORY]
    account, _ = await directory.one(path_id(request, "account_id"))
    await confirmed(request, f"Disable the account of {account.name}")
    await directory.disable(who, account.account_id)
    return go_to(f"{_PEOPLE}/{account.account_id}")


async def enable(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/enable."""
    who, directory = person(request), request.config_dict[DIRECTORY]
    account, _ = await directory.one(path_id(request, "account_id"))
    await confirmed(request, f"Enable the account of {account.name} again")
    await directory.enable(who, account.account_id)
    return go_to(f"{_PEOPLE}/{account.account_id}")


async def grant(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/grants."""
    form, who = parse_form(request, GrantForm), person(request)
    account, _ = await request.config_dict[DIRECTORY].one(path_id(request, "account_id"))
    place = await where(request, form.group)
    await confirmed(request, f"Let {account.name} be {form.role}, {place}")
    granting = request.config_dict[GRANTING]
    await granting.grant(who, account.account_id, form.role, form.group)
    return go_to(f"{_PEOPLE}/{account.account_id}")


async def take(request: web.Request) -> web.StreamResponse:
    """POST /settings/people/{account_id}/grants/{grant_id}/take."""
    who, grant_id = person(request), path_id(request, "grant_id")
    account, grants = await request.config_dict[DIRECTORY].one(path_id(request, "account_id"))
    role = next((each.role for each in grants if each.grant_id == grant_id), None)
    if role is None:
        raise Problem(404, "grant_unknown", "This role is not held any more.")
    await confirmed(request, f"Take the role {role} from {account.name}")
    await request.config_dict[GRANTING].take(who, account.account_id, grant_id)
    return go_to(f"{_PEOPLE}/{account.account_id}")


async def list_roles(request: web.Request) -> web.StreamResponse:
    """GET /settings/roles."""
    roles = await request.config_dict[GRANTING].roles()
    return page(request, "people/roles.html", roles=roles, catalogue=PERMISSIONS)


async def add_role(request: web.Request) -> web.StreamResponse:
    """POST /settings/roles."""
    form, who = parse_form(request, RoleForm), person(request)
    await confirmed(request, f"Make the role “{form.name}”: {', '.join(sorted(form.permission))}")
    await request.config_dict[GRANTING].add_role(who, form.name, form.permission)
    return go_to(_ROLES)


async def show_join(request: web.Request) -> web.StreamResponse:
    """GET /join/{token}: looking spends nothing."""
    linked = await request.config_dict[DIRECTORY].linked(request.match_info["token"])
    return page(request, "join.html", linked=linked, why=None)


async def join(request: web.Request) -> web.StreamResponse:
    """POST /join/{token}: set one's password, once; a second factor comes next."""
    form, directory = parse_form(request, PasswordForm), request.config_dict[DIRECTORY]
    token = request.match_info["token"]
    linked = await directory.linked(token)
    if linked.sealed:
        join_sealed = request.config_dict[SEALED].join
        sign_in_browser(request, await join_sealed(token, linked.account_id, visit(request)))
        return go_to("/second-factor")
    try:
        secret = await directory.join(token, form.password, visit(request))
    except Problem as problem:
        if problem.code != "password_weak":
            raise
        return page(request, "join.html", status=422, linked=linked, why=problem.detail)
    sign_in_browser(request, secret)
    return go_to("/second-factor")


async def _choices(request: web.Request) -> dict[str, Any]:
    """What a grant chooses from; who may not grant sees it, disabled."""
    roles = await request.config_dict[GRANTING].roles()
    groups = await request.config_dict[DIRECTORY].group_names()
    return {"roles": roles, "groups": groups, "grant_permission": GRANT}


async def where(request: web.Request, group: UUID | None) -> str:
    if group is None:
        return "on all devices"
    names = await request.config_dict[DIRECTORY].group_names()
    if group not in names:
        raise Problem(422, "group_unknown", "There is no such group.")
    return f"on the devices of the group {names[group]}"


def show_link(request: web.Request, account_id: UUID, name: str, token: str) -> web.Response:
    link = f"{request.config_dict[CONSOLE_URL].rstrip('/')}/join/{token}"
    return page(request, "people/link.html", account_id=account_id, name=name, link=link)


_ONE = f"{_PEOPLE}/{{account_id}}"
ROUTES = (
    permitted_page("GET", _PEOPLE, list_people, READ, "Accounts"),
    permitted_page("POST", _PEOPLE, invite, WRITE, "Make an account"),
    permitted_page("GET", _ONE, show_person, READ, "An account"),
    permitted_page("POST", f"{_ONE}/reset", reset, WRITE, "Reset how somebody signs in"),
    permitted_page("POST", f"{_ONE}/disable", disable, WRITE, "Disable an account"),
    permitted_page("POST", f"{_ONE}/enable", enable, WRITE, "Enable an account"),
    permitted_page("POST", f"{_ONE}/grants", grant, GRANT, "Give a role"),
    permitted_page("POST", f"{_ONE}/grants/{{grant_id}}/take", take, GRANT, "Take a role"),
    permitted_page("GET", _ROLES, list_roles, READ, "Roles"),
    permitted_page("POST", _ROLES, add_role, WRITE_ROLE, "Make a role"),
    Route("GET", "/join/{token}", show_join, page=True, public=True, summary="Behind a link"),
    Route(
        "POST",
        "/join/{token}",
        join,
        page=True,
        public=True,
        summary="Set one's password",
        max_body=16384,
    ),
)
