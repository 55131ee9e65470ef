"""Asking other services in a person's name: the owner of the data decides (decision 38)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from services.console.people import Person
from services.console.permissions import PERMISSIONS
from shared.runtime.internal import InternalClient
from shared.runtime.problems import Problem
from shared.runtime.tokens import Signer

LIFETIME = timedelta(minutes=5)
_REFUSED = 400


class Asking:
    """Shows the person's own rights, for one service and five minutes."""

    def __init__(self, internal: InternalClient, signer: Signer) -> None:
        self._internal, self._signer = internal, signer

    async def ask(
        self,
        person: Person,
        service: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The JSON of a 2xx; raises the service's own Problem, or InternalCallFailed."""
        token = self.token(person, service)
        answer = await self._internal.for_person(service, method, path, token, body)
        if answer.status >= _REFUSED:
            raise _problem(answer.status, answer.body)
        return answer.body

    def token(self, person: Person, service: str) -> str:
        """Only what the service itself asks for: a token shown to one is no use elsewhere."""
        of_service = frozenset(PERMISSIONS[service])
        caller = person.caller
        groups = {
            group: sorted(held & of_service)
            for group, held in caller.groups.items()
            if held & of_service
        }
        return self._signer.access(
            person.actor,
            service,
            sorted(caller.permissions & of_service),
            LIFETIME,
            groups=groups,
            via=person.via,
            source=caller.source,
        )


def _problem(status: int, body: Mapping[str, Any]) -> Problem:
    extra = {"errors": body["errors"]} if isinstance(body.get("errors"), list) else {}
    detail = str(body.get("detail") or f"The service answered {status}.")
    return Problem(status, str(body.get("code") or "refused"), detail, **extra)
