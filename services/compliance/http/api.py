"""Policies and verdicts: /api/v1/compliance/…"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from aiohttp import web

from services.compliance.editing import By, Editor, unknown_policy
from services.compliance.http.models import (
    ChangedPolicy,
    Created,
    DeviceList,
    DeviceQuery,
    DeviceVerdicts,
    Draft,
    NewPolicy,
    PolicyList,
    PolicyView,
    PreviewView,
    Summary,
    VerdictList,
    VerdictQuery,
    VersionList,
)
from services.compliance.previews import Previews
from services.compliance.queries import Reader
from shared.runtime.http import Page, Reach, caller, parse_body, parse_query, render
from shared.runtime.paging import bad_cursor
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

READ = "compliance.read"
EDITOR = web.AppKey("compliance.editor", Editor)
READER = web.AppKey("compliance.reader", Reader)
PREVIEWS = web.AppKey("compliance.previews", Previews)


def _id(request: web.Request, name: str, unknown: Callable[[], Problem]) -> UUID:
    try:
        return UUID(request.match_info[name])
    except ValueError:
        raise unknown() from None


def _policy_id(request: web.Request) -> UUID:
    return _id(request, "policy_id", unknown_policy)


def _cursor_ids(page: Page, length: int) -> list[UUID]:
    """The ids a cursor goes on after; none on the first page."""
    try:
        return [UUID(part) for part in page.after(length) or []]
    except (ValueError, TypeError, AttributeError):
        raise bad_cursor() from None


def _reach(request: web.Request) -> Reach:
    return caller(request).reach(READ)


def _by(request: web.Request, reason: str | None = None) -> By:
    who = caller(request)
    return By(who.actor, who.source, reason, who.via)


async def list_policies(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/policies: policies with their counts."""
    page = parse_query(request, Page)
    after = _cursor_ids(page, 1)
    rows, following = await request.config_dict[READER].policies(
        after[0] if after else None, page.limit
    )
    return render(PolicyList.model_validate({"items": rows, "next": following}))


async def create_policy(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/compliance/policies: a new policy, taken through the fleet at once."""
    body = await parse_body(request, NewPolicy)
    made = await request.config_dict[EDITOR].create(body.definition(), _by(request, body.reason))
    return render({"policy_id": made}, 201)


async def get_policy(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/policies/{policy_id}: a policy, its counts, its rollout."""
    row = await request.config_dict[READER].policy(_policy_id(request))
    return render(PolicyView.model_validate(row))


async def change_policy(request: web.Request) -> web.StreamResponse:
    """PUT /api/v1/compliance/policies/{policy_id}: the next version of a policy."""
    policy_id, body = _policy_id(request), await parse_body(request, ChangedPolicy)
    await request.config_dict[EDITOR].change(
        policy_id, body.definition(), _by(request, body.reason), body.expected_version
    )
    row = await request.config_dict[READER].policy(policy_id)
    return render(PolicyView.model_validate(row))


async def delete_policy(request: web.Request) -> web.StreamResponse:
    """DELETE /api/v1/compliance/policies/{policy_id}: take a policy out of force."""
    await request.config_dict[EDITOR].delete(_policy_id(request), _by(request))
    return web.Response(status=204)


async def preview(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/compliance/previews: what a policy would say of the fleet; changes nothing."""
    caller(request).require(READ)  # it names devices
    draft = await parse_body(request, Draft)
    found = await request.config_dict[PREVIEWS].of(draft.definition(), draft.policy_id)
    return render(PreviewView.model_validate(found, from_attributes=True))


async def list_versions(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/policies/{policy_id}/versions: newest first."""
    page, policy_id = parse_query(request, Page), _policy_id(request)
    key = page.after(1)
    before = None if key is None else key[0]
    if before is not None and (not isinstance(before, int) or not 0 < before < 2**31):
        raise bad_cursor()
    rows, following = await request.config_dict[READER].versions(policy_id, before, page.limit)
    return render(VersionList.model_validate({"items": rows, "next": following}))


async def list_verdicts(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/verdicts?policy=&state=: verdicts by policy and device."""
    query = parse_query(request, VerdictQuery)
    after = _cursor_ids(query, 2)
    rows, following = await request.config_dict[READER].verdicts(
        query.policy,
        query.state,
        _reach(request),
        (after[0], after[1]) if after else None,
        query.limit,
    )
    return render(VerdictList.model_validate({"items": rows, "next": following}))


async def list_devices(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/devices?state=: devices with their state over all policies."""
    query = parse_query(request, DeviceQuery)
    after = _cursor_ids(query, 1)
    rows, following = await request.config_dict[READER].devices(
        query.state, _reach(request), after[0] if after else None, query.limit
    )
    return render(DeviceList.model_validate({"items": rows, "next": following}))


async def device_verdicts(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/devices/{device_id}/verdicts: every rule, explained."""
    device_id = _id(
        request, "device_id", lambda: Problem(404, "device_unknown", "A device id is a UUID.")
    )
    row = await request.config_dict[READER].device(device_id, _reach(request))
    return render(DeviceVerdicts.model_validate(row))


async def summary(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/compliance/summary: how many devices are in which state."""
    return render(Summary.model_validate(await request.config_dict[READER].summary()))


_BASE = "/api/v1/compliance"
_POLICY = f"{_BASE}/policies/{{policy_id}}"
ROUTES = (
    Route(
        "GET",
        f"{_BASE}/policies",
        list_policies,
        permission=READ,
        summary="List policies with their counts",
        query=Page,
        answer=PolicyList,
    ),
    Route(
        "POST",
        f"{_BASE}/policies",
        create_policy,
        permission="compliance.write",
        summary="Create a policy",
        body=NewPolicy,
        answer=Created,
        status=201,
    ),
    Route(
        "GET",
        _POLICY,
        get_policy,
        permission=READ,
        summary="Show a policy, its counts and its rollout",
        answer=PolicyView,
    ),
    Route(
        "PUT",
        _POLICY,
        change_policy,
        permission="compliance.write",
        summary="Change a policy: its next version",
        body=ChangedPolicy,
        answer=PolicyView,
    ),
    Route(
        "DELETE",
        _POLICY,
        delete_policy,
        permission="compliance.write",
        summary="Take a policy out of force",
        status=204,
    ),
    Route(
        "POST",
        f"{_BASE}/previews",
        preview,
        permission="compliance.write",
        summary="Judge a part of the fleet by a policy that is not saved",
        body=Draft,
        answer=PreviewView,
    ),
    Route(
        "GET",
        f"{_POLICY}/versions",
        list_versions,
        permission=READ,
        summary="List the versions of a policy",
        query=Page,
        answer=VersionList,
    ),
    Route(
        "GET",
        f"{_BASE}/verdicts",
        list_verdicts,
        permission=READ,
        scoped=True,
        summary="List verdicts by policy and state",
        query=VerdictQuery,
        answer=VerdictList,
    ),
    Route(
        "GET",
        f"{_BASE}/devices",
        list_devices,
        permission=READ,
        scoped=True,
        summary="List devices by their state over all policies",
        query=DeviceQuery,
        answer=DeviceList,
    ),
    Route(
        "GET",
        f"{_BASE}/devices/{{device_id}}/verdicts",
        device_verdicts,
        permission=READ,
        scoped=True,
        summary="Explain all verdicts on a device",
        answer=DeviceVerdicts,
    ),
    Route(
        "GET",
        f"{_BASE}/summary",
        summary,
        permission=READ,
        summary="Count devices by state",
        answer=Summary,
    ),
)
