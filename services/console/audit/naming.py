"""Entries in words: who, what and whom by their names, with a way to each that has a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from services.console.store import audit_names as store
from services.console.store.audit_names import Named
from services.console.views.sentences import actor_text, asked_text
from shared.db.pool import Connection, Pool, transaction

Row = dict[str, Any]
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAGES: Final[Mapping[str, str]] = {
    "device": "/devices/{}",
    "account": "/settings/people/{}",
    "webhook": "/settings/webhooks/{}",
    "provider": "/settings/identity/{}",
}
_KINDS: Final[Mapping[str, str]] = {
    "account": "The account of {}",
    "group": "The group {}",
    "policy": "The policy {}",
    "webhook": "The webhook {}",
    "provider": "The identity provider {}",
    "token": "The token {}",
    "session": "A session of {}",
}
_PLAIN: Final[Mapping[str, str]] = {
    "session": "A session that is over",
    "account": "An account that is gone",
    "credential": "An enrollment credential",
    "dead-letter": "A dead letter",
    "role": "A role",
    "service": "The service {}",
    "serials": "The list of serial numbers",
    "token": "A token that is gone",
    "view": "A saved view",
    "webhook": "A webhook that is gone",
    "identity_provider": "An identity provider that is gone",
}
_BY_AREA: Final[Mapping[str, str]] = {
    "command": "All commands so far",
    "compliance": "A policy that is gone",
    "device": "A device that is gone",
    "group": "A group that is gone",
    "guard": "All commands",
    "push": "A device that is gone",
    "secret": "A device that is gone",
}
_COMMAND: Final = "command."
_CREATE: Final = "command.create"
_NOT_ONE: Final = "command.cancel_all"
_UNTOLD: Final = "Erased"


@dataclass(frozen=True)
class Shown:
    """Words, and the page of what they name, where it has one."""

    text: str
    path: str | None = None


class Naming:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def in_words(self, rows: Iterable[Row]) -> list[Row]:
        """The rows with `who`, `what`, `whom` and `through` beside what they are."""
        rows = list(rows)
        texts = [row[name] for row in rows for name in ("actor", "target", "via") if row[name]]
        async with transaction(self._pool) as tx:
            asked = await _asked(tx, rows)
            known = await store.names(tx, _all_ids([*texts, *_devices(asked)]))
        return [{**row, **_words(row, known, asked)} for row in rows]

    async def subjects(self, subjects: Iterable[str]) -> dict[str, Shown]:
        """What events are about, in words; what has no name is left out."""
        texts = {one for one in subjects if _ids(one)}
        async with transaction(self._pool) as tx:
            asked = await store.commands(tx, texts)
            known = await store.names(tx, _all_ids([*texts, *_devices(asked)]))
        shown = {text: _command(text, known, asked) for text in asked}
        return shown | {text: _thing(text, one) for text in texts if (one := _named(text, known))}

    async def people(self) -> dict[str, str]:
        """Actor → name: what a filter may be set to."""
        async with transaction(self._pool) as tx:
            return await store.people(tx)

    async def target(self, words: str) -> str:
        """As the audit names what somebody typed: a name, a serial number, or the target itself."""
        if _ID.search(words):
            return words
        async with transaction(self._pool) as tx:
            return await store.find(tx, words) or words


def action_text(action: str) -> str:
    """`command.cancel_all` → `Command: cancel all`."""
    area, _, rest = action.replace("_", " ").rpartition(".")
    words = f"{area.replace('.', ' ')}: {rest}" if area else rest
    return words[:1].upper() + words[1:]


async def _asked(tx: Connection, rows: Iterable[Row]) -> dict[str, Row]:
    """Of each command that is a target: its kind, and its devices; only what is on record."""
    about = [row for row in rows if _is_of_command(row)]
    here = {row["target"]: row["after"] for row in about if row["action"] == _CREATE}
    others = {row["target"] for row in about} - here.keys()
    found = await store.commands(tx, others) if others else {}
    return found | {target: one for target, one in here.items() if one and "kind" in one}


def _devices(asked: Mapping[str, Row]) -> list[str]:
    return [one["device"] for one in asked.values() if "device" in one]


def _all_ids(texts: Iterable[str]) -> set[UUID]:
    return {UUID(found) for text in texts for found in _ids(text)}


def _is_of_command(row: Row) -> bool:
    action, target = row["action"], row["target"] or ""
    return action.startswith(_COMMAND) and action != _NOT_ONE and bool(_ids(target))


def _words(row: Row, known: Mapping[UUID, Named], asked: Mapping[str, Row]) -> Row:
    return {
        "who": _who(row["actor"], known),
        "what": action_text(row["action"]),
        "whom": _command(row["target"], known, asked) if _is_of_command(row) else _whom(row, known),
        "through": _through(row["via"], known),
    }


def _who(actor: str | None, known: Mapping[UUID, Named]) -> Shown:
    if actor is None:
        return Shown(_UNTOLD)
    if found := _named(actor, known):
        path = _PAGES["account"].format(_ids(actor)[0]) if found.kind == "account" else None
        return Shown(found.name, path)
    kind, _, rest = actor.partition(":")
    return Shown(_PLAIN.get(kind, actor) if _ids(rest) else actor_text(actor))


def _command(target: str, known: Mapping[UUID, Named], asked: Mapping[str, Row]) -> Shown:
    """By what it does and to whom, as far as that is on record."""
    path, one = f"/commands/{target}", asked.get(target)
    if one is None:
        return Shown("A command", path)
    device = _named(str(one.get("device", "")), known)
    return Shown(asked_text(one, device.name if device else None), path)


def _whom(row: Row, known: Mapping[UUID, Named]) -> Shown:
    target, action = row["target"], row["action"]
    if target is None:
        return Shown(_UNTOLD)
    if found := _named(target, known):
        return _thing(target, found)
    kind, _, rest = target.partition(":")
    if rest and kind in _PLAIN:
        return Shown(_PLAIN[kind].format(rest))
    if _ids(target):
        return Shown(_BY_AREA.get(action.partition(".")[0], "Something that is not known here"))
    return Shown(target)


def _thing(target: str, named: Named) -> Shown:
    page = _PAGES.get(named.kind)
    text = _KINDS.get(named.kind, "{}").format(named.name)
    return Shown(text, page and page.format(_ids(target)[0]))


def _through(via: str | None, known: Mapping[UUID, Named]) -> str | None:
    """The session or the token; whose it is says the actor."""
    if via is None:
        return None
    found = _named(via, known)
    if via.startswith("token:"):
        return f"The API token {found.name}" if found else _PLAIN["token"]
    return "A browser" if via.startswith("session:") else via


def _named(text: str, known: Mapping[UUID, Named]) -> Named | None:
    ids = _ids(text)
    return known.get(UUID(ids[0])) if ids else None


def _ids(text: str) -> list[str]:
    return _ID.findall(text)
