"""Certificate → enrollment: who a signature speaks for, in one read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.db.pool import Connection, Record

State = Literal["pending", "enrolled", "quarantined", "ended"]

_ENROLLMENT = """
e.enrollment_id, e.device_id, e.generation, e.state, e.mode, e.id_kind, e.udid,
e.authenticated_with, e.end_reason, e.access_rights
"""
_PIN = f"""
c.sha256, c.not_before, c.not_after, c.revoked_at IS NOT NULL AS revoked,
c.enrollment_id IS NOT NULL AS pinned,
s.session_id, s.credential_id, s.platform, s.ownership, s.serial AS bound_serial,
s.user_name, s.access_rights AS granted_rights, s.renews IS NOT NULL AS renews,
s.id_kind AS bound_kind, s.udid AS bound_udid, c.authority IS NULL AS imported,
s.address, s.suspicions, k.revoked_at IS NOT NULL AS withdrawn, k.serials, k.leaked_at,
EXISTS (SELECT FROM fence AS f WHERE f.enrollment_id = e.enrollment_id
          AND f.ends IS NOT NULL) AS leaving,
{_ENROLLMENT}
"""
_BEHIND_IT = """
LEFT JOIN session AS s ON s.session_id = c.session_id
LEFT JOIN credential AS k ON k.credential_id = s.credential_id
LEFT JOIN enrollment AS e ON e.enrollment_id = coalesce(c.enrollment_id, s.renews)
"""
READ = f"SELECT {_PIN} FROM certificate AS c {_BEHIND_IT} WHERE c.sha256 = ANY($1::bytea[])"
# The same, which known hardware bears the names that come with the certificate, and what is known
# of the names themselves.
READ_CLAIMED = f"""
SELECT {_PIN}, news.place, ARRAY(SELECT device_id FROM device WHERE udid = news.udid
                                 UNION
                                 SELECT device_id FROM device WHERE serial = news.serial) AS known,
       EXISTS (SELECT FROM listed_serial AS l WHERE l.serial = upper(btrim(news.serial))) AS listed,
       EXISTS (SELECT FROM lobby AS b WHERE b.udid = news.udid AND b.decision = 'refused')
           AS refused_before
FROM unnest($1::bytea[], $2::text[], $3::text[])
     WITH ORDINALITY AS news (sha256, udid, serial, place)
JOIN certificate AS c ON c.sha256 = news.sha256
{_BEHIND_IT}
"""
# Hardware is known by its id, and by its serial where that is told.
KNOWN_HARDWARE = f"""
SELECT d.device_id AS hardware_id, d.udid AS hardware_udid, d.serial AS hardware_serial,
       {_ENROLLMENT}
FROM (SELECT device_id, udid, serial, current_enrollment FROM device WHERE udid = ANY($1::text[])
      UNION
      SELECT device_id, udid, serial, current_enrollment FROM device WHERE serial = ANY($2::text[])
     ) AS d
LEFT JOIN enrollment AS e ON e.enrollment_id = d.current_enrollment
"""
# Two first enrollments of the same hardware must not pass each other: there is no row to lock yet.
# So the names come first, then the rows that are known; each in an order that everybody keeps.
HOLD = """
WITH names AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(key) FROM (
        SELECT DISTINCT hashtextextended(name, 7) AS key
        FROM unnest($1::text[]) AS name ORDER BY key
    ) AS keys
), held AS MATERIALIZED (
    SELECT FROM device WHERE device_id = ANY($2::uuid[]) ORDER BY device_id FOR NO KEY UPDATE
)
SELECT (SELECT count(*) FROM names), (SELECT count(*) FROM held)
"""


@dataclass(frozen=True, slots=True)
class Enrollment:
    enrollment_id: UUID
    device_id: UUID
    generation: int
    state: State
    mode: str
    id_kind: str
    udid: str
    authenticated_with: bytes
    end_reason: str | None
    access_rights: int | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What the profile was handed out for; its certificate may make one enrollment of it.

    `imported`: no profile of ours, but a certificate that was registered for this `udid`.
    """

    session_id: UUID
    credential_id: UUID | None
    platform: str | None
    ownership: str
    serial: str | None
    user_name: str | None
    access_rights: int | None
    withdrawn: bool
    imported: bool = False
    id_kind: str | None = None
    udid: str | None = None
    any_serial: bool = False
    """The credential lets hardware in that is on no list."""
    leaked: bool = False
    """Somebody else is known to hold the credential."""
    address: str | None = None
    """Who asked for the profile."""
    suspicions: Sequence[str] = ()
    """What spoke against the asker then."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of claimed names, whoever claims them."""

    listed: bool = False
    refused_before: bool = False


@dataclass(frozen=True, slots=True)
class Pin:
    """A certificate that has a row. `enrollment`: the one it is pinned to or may renew.

    `leaving`: a revocation of that enrollment was ordered and waits for its fence.
    """

    sha256: bytes
    not_before: datetime
    not_after: datetime
    revoked: bool
    pinned: bool
    leaving: bool
    grant: Grant | None
    enrollment: Enrollment | None


@dataclass(frozen=True, slots=True)
class Hardware:
    """A known device; `current` is the enrollment commands go to, None if it never had one."""

    device_id: UUID
    udid: str | None
    serial: str | None
    current: Enrollment | None


@dataclass(frozen=True, slots=True)
class Named:
    """What somebody presents: a certificate, and the names of the hardware that they claim."""

    certificate: bytes
    udid: str | None = None
    serial: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The certificate that was presented, and the known devices that bear the claimed names."""

    pin: Pin
    known: frozenset[UUID]
    signs: Signs = Signs()


async def read(tx: Connection, fingerprints: Sequence[bytes]) -> dict[bytes, Pin]:
    """The certificates that have a row, by SHA-256."""
    rows = await tx.fetch(READ, list(fingerprints))
    return {row["sha256"]: _pin(row) for row in rows}


async def standings(tx: Connection, presented: Sequence[Named]) -> list[Standing | None]:
    """What stands behind each of these, in their order; None: the certificate has no row."""
    found: list[Standing | None] = [None] * len(presented)
    for row in await tx.fetch(
        READ_CLAIMED,
        [one.certificate for one in presented],
        [one.udid for one in presented],
        [one.serial for one in presented],
    ):
        signs = Signs(row["listed"], row["refused_before"])
        found[row["place"] - 1] = Standing(_pin(row), frozenset(row["known"]), signs)
    return found


async def known_hardware(
    tx: Connection, udids: Sequence[str], serials: Sequence[str]
) -> list[Hardware]:
    rows = await tx.fetch(KNOWN_HARDWARE, list(udids), list(serials))
    return [
        Hardware(row["hardware_id"], row["hardware_udid"], row["hardware_serial"], _enrollment(row))
        for row in rows
    ]


async def hold(
    tx: Connection, udids: Iterable[str], serials: Iterable[str], devices: Iterable[UUID]
) -> None:
    """Hold these names, borne by a known device or not, and these devices' rows, which exist.

    Until the transaction ends; before anything is read that a decision rests on.
    """
    names = [f"udid:{udid}" for udid in udids] + [f"serial:{serial}" for serial in serials]
    await tx.execute(HOLD, names, sorted(set(devices)))


def _pin(row: Record) -> Pin:
    grant = None
    if row["session_id"] is not None:
        grant = Grant(
            session_id=row["session_id"],
            credential_id=row["credential_id"],
            platform=row["platform"],
            ownership=row["ownership"],
            serial=row["bound_serial"],
            user_name=row["user_name"],
            access_rights=row["granted_rights"],
            withdrawn=row["withdrawn"] and not row["renews"],
            imported=row["imported"],
            id_kind=row["bound_kind"],
            udid=row["bound_udid"],
            any_serial=row["serials"] == "any",
            leaked=row["leaked_at"] is not None,
            address=row["address"],
            suspicions=row["suspicions"],
        )
    return Pin(
        sha256=row["sha256"],
        not_before=row["not_before"],
        not_after=row["not_after"],
        revoked=row["revoked"],
        pinned=row["pinned"],
        leaving=row["leaving"],
        grant=grant,
        enrollment=_enrollment(row),
    )


def _enrollment(row: Record) -> Enrollment | None:
    if row["enrollment_id"] is None:
        return None
    return Enrollment(
        enrollment_id=row["enrollment_id"],
        device_id=row["device_id"],
        generation=row["generation"],
        state=row["state"],
        mode=row["mode"],
        id_kind=row["id_kind"],
        udid=row["udid"],
        authenticated_with=row["authenticated_with"],
        end_reason=row["end_reason"],
        access_rights=row["access_rights"],
    )
