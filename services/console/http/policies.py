"""The screen Policies: what compliance judges, how the fleet stands, and editing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.keys import VIEWS
from services.console.http.pages import (
    ask_surely,
    go_to,
    page,
    paged,
    parse_form,
    parse_pairs,
    permitted_page,
    query_pairs,
)
from services.console.http.step_up import confirmed
from services.console.http.words import PLATFORM, SHOWN
from shared.runtime.http import Page, path_id
from shared.runtime.problems import Problem

READ, WRITE = "compliance.read", "compliance.write"
_API: Final = "/api/v1/compliance/policies"
_PREVIEWS: Final = "/api/v1/compliance/previews"
_HERE: Final = "/policies"
_OWN: Final[tuple[str, ...]] = (
    "name",
    "description",
    "applicability",
    "rules",
    "inputs_ttl_hours",
    "stale_noncompliant_after_hours",
    "error_hold_hours",
    "after_error",
)
"""What people decide, in the order in which they read it."""
_FIRST: Final[Mapping[str, Any]] = {
    "name": "Baseline",
    "description": "",
    "applicability": {"platforms": ["ios", "ipados"], "ownership": [], "tags": []},
    "rules": [
        {"kind": "passcode_present"},
        {"kind": "encryption_on"},
        {"kind": "os_at_least", "versions": {"ios": "17.6", "ipados": "17.6"}},
    ],
}
"""Something to change, for who makes the first one."""
_REFUSED: Final = frozenset({400, 409, 422})
_MAX_BODY: Final = 262_144
KINDS: Final[Mapping[str, str]] = {
    "passcode_present": "A passcode is set.",
    "encryption_on": "Data at rest is protected.",
    "os_at_least": 'The system is new enough: "versions": {"ios": "17.6"}.',
    "app_required": 'All of these apps are installed: "identifiers": ["com.example.app"].',
    "app_forbidden": 'None of these apps is installed: "identifiers": […].',
    "last_seen_within": 'The device spoke in the last so many hours: "hours": 72.',
    "attribute": 'A fact compares: "fact": "battery.level", "operator": "ge", "value": 0.2.',
}
_COMPARES: Final[Mapping[str, str]] = {
    "eq": "is",
    "ne": "is not",
    "lt": "is less than",
    "le": "is at most",
    "gt": "is more than",
    "ge": "is at least",
    "in": "is one of",
    "not_in": "is none of",
    "contains": "contains",
    "version_at_least": "is at least version",
}


class PolicyForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    definition: Annotated[str, Field(max_length=200_000)]
    reason: Annotated[str, Field(max_length=300)] = ""
    version: int | None = None
    """The one that was edited: a change that came between is not overwritten."""


class DeleteForm(BaseModel):
    model_config = ConfigDict(extra="forbid")


def rule_text(rule: Mapping[str, Any]) -> str:
    """A rule as a sentence."""
    named = [str(one) for one in rule.get("identifiers") or ()]
    match rule["kind"]:
        case "os_at_least":
            least = ", ".join(
                f"{PLATFORM.get(of, (of, ''))[0]} {version}"
                for of, version in rule["versions"].items()
            )
            return f"The system is at least {least}"
        case "app_required":
            return f"Installed: {', '.join(named)}"
        case "app_forbidden":
            return f"Not installed: {', '.join(named)}"
        case "last_seen_within":
            return f"Seen in the last {rule['hours']:g} hours"
        case "attribute":
            value = rule["value"]
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            return f"{rule['fact']} {_COMPARES.get(rule['operator'], rule['operator'])} {said}"
        case kind:
            return KINDS.get(kind, str(kind)).rstrip(".")


async def list_policies(request: web.Request) -> web.StreamResponse:
    """GET /policies."""
    query = parse_pairs(request, query_pairs(request), Page)
    found = await _asked(request, "GET", paged(_API, query))
    return page(
        request,
        "policies/list.html",
        policies=found["items"],
        next=found["next"],
        query=query,
        shown=SHOWN,
    )


async def show_policy(request: web.Request) -> web.StreamResponse:
    """GET /policies/{policy_id}: rules in words, how the fleet stands, former versions."""
    query, api = parse_pairs(request, query_pairs(request), Page), _one(request)
    policy = await _asked(request, "GET", api)
    versions = await _asked(request, "GET", paged(f"{api}/versions", query))
    names = await request.config_dict[VIEWS].actors(
        [policy["changed_by"], *(row["changed_by"] for row in versions["items"])]
    )
    return page(
        request,
        "policies/one.html",
        policy=policy,
        versions=versions,
        names=names,
        rule_text=rule_text,
        shown=SHOWN,
    )


async def new_policy(request: web.Request) -> web.StreamResponse:
    """GET /policies/new."""
    return _editor(request, PolicyForm(definition=_text(_FIRST)))


async def make_policy(request: web.Request) -> web.StreamResponse:
    """POST /policies: taken through the fleet at once."""
    form = parse_form(request, PolicyForm)
    try:
        made = await _asked(request, "POST", _API, _body(form))
    except Problem as problem:
        return _refused(request, form, problem)
    return go_to(f"{_HERE}/{made['policy_id']}")


async def edit_policy(request: web.Request) -> web.StreamResponse:
    """GET /policies/{policy_id}/edit."""
    policy = await _asked(request, "GET", _one(request))
    own: dict[str, Any] = {name: policy[name] for name in _OWN if name in policy}
    return _editor(request, PolicyForm(definition=_text(own), version=policy["version"]))


async def change_policy(request: web.Request) -> web.StreamResponse:
    """POST /policies/{policy_id}: its next version."""
    form, api = parse_form(request, PolicyForm), _one(request)
    try:
        await _asked(request, "PUT", api, _body(form) | {"expected_version": form.version})
    except Problem as problem:
        return _refused(request, form, problem)
    return go_to(f"{_HERE}/{request.match_info['policy_id']}")


async def preview_policy(request: web.Request) -> web.StreamResponse:
    """POST /policies/preview and /policies/{policy_id}/preview: who would fail; nothing is kept."""
    form = parse_form(request, PolicyForm)
    wanted = _definition(form)
    if "policy_id" in request.match_info:
        wanted["policy_id"] = str(path_id(request, "policy_id"))
    try:
        found = await _asked(request, "POST", _PREVIEWS, wanted)
    except Problem as problem:
        return _refused(request, form, problem)
    return _editor(request, form, preview=found)


async def delete_policy(request: web.Request) -> web.StreamResponse:
    """POST /policies/{policy_id}/delete: it judges nobody any more."""
    parse_form(request, DeleteForm)
    api = _one(request)
    policy = await _asked(request, "GET", api)
    await confirmed(request, f"Delete the policy {policy['name']}")
    await _asked(request, "DELETE", api)
    return go_to(_HERE)


def _body(form: PolicyForm) -> dict[str, Any]:
    return _definition(form) | {"reason": form.reason or None}


def _definition(form: PolicyForm) -> dict[str, Any]:
    """What was typed, but for a reason, which has a field of its own."""
    try:
        wanted = orjson.loads(form.definition)
    except ValueError as error:
        raise Problem(422, "definition_invalid", f"This is no JSON: {error}.") from None
    if not isinstance(wanted, dict):
        raise Problem(422, "definition_invalid", "A policy is an object: { … }.")
    return {name: value for name, value in wanted.items() if name != "reason"}


def _refused(request: web.Request, form: PolicyForm, problem: Problem) -> web.Response:
    """What was typed, and what is wrong with it; other problems are no fault of the form."""
    if problem.status not in _REFUSED:
        raise problem
    errors = problem.extra.get("errors")
    faults = errors if isinstance(errors, list) else []
    return _editor(request, form, f"{problem.detail} Nothing was changed.", faults, problem.status)


def _editor(
    request: web.Request,
    form: PolicyForm,
    complaint: str | None = None,
    faults: list[Any] | None = None,
    status: int = 200,
    preview: Mapping[str, Any] | None = None,
) -> web.Response:
    return page(
        request,
        "policies/edit.html",
        status=status,
        form=form,
        complaint=complaint,
        faults=faults or [],
        kinds=KINDS,
        preview=preview,
        shown=SHOWN,
        policy_id=request.match_info.get("policy_id"),
    )


def _text(definition: Mapping[str, Any]) -> str:
    return orjson.dumps(definition, option=orjson.OPT_INDENT_2).decode()


def _one(request: web.Request) -> str:
    """Its place in compliance's API."""
    return f"{_API}/{path_id(request, 'policy_id')}"


async def _asked(
    request: web.Request, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    return await ask_surely(request, "compliance", method, path, body)


_ONE: Final = f"{_HERE}/{{policy_id}}"
ROUTES = (
    permitted_page("GET", _HERE, list_policies, READ, "Policies"),
    permitted_page("POST", _HERE, make_policy, WRITE, "Make a policy", max_body=_MAX_BODY),
    permitted_page("GET", f"{_HERE}/new", new_policy, WRITE, "A new policy"),
    permitted_page("GET", _ONE, show_policy, READ, "A policy and how the fleet stands"),
    permitted_page("POST", _ONE, change_policy, WRITE, "Change a policy", max_body=_MAX_BODY),
    permitted_page("GET", f"{_ONE}/edit", edit_policy, WRITE, "Edit a policy"),
    *(
        permitted_page(
            "POST",
            f"{place}/preview",
            preview_policy,
            WRITE,
            "Who would fail a policy that is not saved",
            max_body=_MAX_BODY,
        )
        for place in (_HERE, _ONE)
    ),
    permitted_page("POST", f"{_ONE}/delete", delete_policy, WRITE, "Delete a policy"),
)
