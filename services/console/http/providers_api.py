"""Identity providers for programs: to read. They are changed by people, in the console."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.console.http.keys import PROVIDERS
from services.console.http.people import READ
from shared.runtime.http import render
from shared.runtime.routes import Route


class ProviderView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    provider_id: UUID
    name: str
    issuer: str
    client_id: str | None
    enabled: bool
    newcomers: bool
    made_at: datetime
    changed_at: datetime


class ProviderList(BaseModel):
    items: list[ProviderView]


async def list_providers(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/identity-providers: in the order of their making, without secrets."""
    found = await request.config_dict[PROVIDERS].every()
    return render(ProviderList(items=[ProviderView.model_validate(each) for each in found]))


ROUTES = (
    Route(
        "GET",
        "/api/v1/console/identity-providers",
        list_providers,
        permission=READ,
        summary="List identity providers",
        answer=ProviderList,
    ),
)
