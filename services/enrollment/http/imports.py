"""Taking over the enrollments of another server: POST /api/v1/enrollment/imports."""

from __future__ import annotations

from uuid import UUID

from aiohttp import web
from pydantic import BaseModel

from services.enrollment.import_verdicts import Outcome
from services.enrollment.imports import IMPORT, ImportOrder, Imports, Warned
from shared.runtime.http import caller, parse_body, render
from shared.runtime.routes import Route

IMPORTS = web.AppKey("enrollment.imports", Imports)

MAX_BODY = 6 * 1024 * 1024
"""Five hundred usual rows take one megabyte; with long tokens fewer go into a call."""


class RowWarning(BaseModel):
    code: str
    detail: str


class ImportedRow(BaseModel):
    row: int
    """Its place in the call, from 0."""
    outcome: Outcome
    """`registered`: only the certificate is known; the device enrolls by its first Authenticate."""
    code: str | None
    """Why it was refused, for programs."""
    detail: str | None
    device_id: UUID | None
    enrollment_id: UUID | None
    warnings: list[RowWarning]


class ImportReport(BaseModel):
    dry_run: bool
    """True: nothing was changed, and the ids are only examples."""
    counts: dict[Outcome, int]
    rows: list[ImportedRow]


async def import_enrollments(request: web.Request) -> web.StreamResponse:
    """POST /imports: a chunk of rows; what becomes of each is in the answer."""
    order = await parse_body(request, ImportOrder)
    taken = await request.config_dict[IMPORTS].take(order, caller(request))
    rows = [_row(place, one) for place, one in enumerate(taken)]
    counts: dict[Outcome, int] = {}
    for row in rows:
        counts[row.outcome] = counts.get(row.outcome, 0) + 1
    return render(ImportReport(dry_run=order.dry_run, counts=counts, rows=rows))


def _row(place: int, one: Warned) -> ImportedRow:
    verdict = one.verdict
    return ImportedRow(
        row=place,
        outcome=verdict.outcome,
        code=verdict.code,
        detail=verdict.reason,
        device_id=verdict.device_id,
        enrollment_id=verdict.enrollment_id,
        warnings=[RowWarning(code=code, detail=detail) for code, detail in one.warnings],
    )


ROUTES = (
    Route(
        "POST",
        "/api/v1/enrollment/imports",
        import_enrollments,
        summary="Take over enrollments of another server, a chunk at a time",
        permission=IMPORT,
        body=ImportOrder,
        answer=ImportReport,
        max_body=MAX_BODY,
    ),
)
