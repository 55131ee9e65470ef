"""Accounts and roles for programs: to read. Who may what is changed by people, in the console."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.console.http.keys import DIRECTORY, GRANTING
from services.console.http.people import READ
from shared.runtime.http import Page, parse_query, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Route


class GrantView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    role_id: str
    role: str
    group_id: UUID | None
    granted_at: datetime
    granted_by: str


class AccountView(BaseModel):
    account_id: UUID
    name: str
    email: str
    created_at: datetime
    disabled_at: datetime | None
    seen_at: datetime | None
    grants: list[GrantView]


class AccountList(BaseModel):
    items: list[AccountView]
    next: str | None


class RoleView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    role_id: str
    name: str
    built_in: bool
    permissions: list[str]


class RoleList(BaseModel):
    items: list[RoleView]


async def list_accounts(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/accounts: in the order of their making."""
    query = parse_query(request, Page)
    found, held = await request.config_dict[DIRECTORY].page(query.after_id(), query.limit + 1)
    rows, following = page_of(found, query.limit, lambda row: [row.account_id])
    items = [
        AccountView(
            account_id=row.account_id,
            name=row.name,
            email=row.email,
            created_at=row.created_at,
            disabled_at=row.disabled_at,
            seen_at=row.seen_at,
            grants=[GrantView.model_validate(each) for each in held[row.account_id]],
        )
        for row in rows
    ]
    return render(AccountList(items=items, next=following))


async def list_roles(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/roles: built-in ones first."""
    roles = await request.config_dict[GRANTING].roles()
    return render(RoleList(items=[RoleView.model_validate(role) for role in roles]))


ROUTES = (
    Route(
        "GET",
        "/api/v1/console/accounts",
        list_accounts,
        permission=READ,
        summary="List accounts and the roles that they hold",
        query=Page,
        answer=AccountList,
    ),
    Route(
        "GET",
        "/api/v1/console/roles",
        list_roles,
        permission=READ,
        summary="List roles and what they hold",
        answer=RoleList,
    ),
)
