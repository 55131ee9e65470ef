"""What the runtime asks of a service that has pages: to judge who is at its door."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from shared.runtime.problems import Problem
from shared.runtime.routes import Route


class Door(Protocol):
    """Sessions belong to a service, not to the runtime: it brings this with its parts."""

    async def admit(self, request: web.Request, route: Route) -> None:
        """Prove who asks and what they may, and that no other site asks in their name.

        Puts the Caller into the request; raises Problem.
        """

    def refuse(self, request: web.Request, problem: Problem, correlation: str) -> web.Response:
        """The refusal as a page."""

    def dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers and cookies that every answer to a browser has."""
