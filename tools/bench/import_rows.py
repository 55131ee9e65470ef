"""Certificates of the bench fleet as enrollment keeps them, each free for one enrollment."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tools.bench.fleet import Device

REGISTER = """
WITH given AS (
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bytea[], $5::timestamptz[],
                         $6::timestamptz[], $7::uuid[], $8::bytea[])
    AS row (sha256, serial, key_sha256, der, not_before, not_after, session_id, challenge)
), sessions AS (
    INSERT INTO session (session_id, challenge_sha256, ownership, access_rights,
                         certificate_sha256, created_at, expires_at)
    SELECT session_id, challenge, 'corporate', 8191, sha256, now(), now() + interval '1 day'
    FROM given
)
INSERT INTO certificate (sha256, serial_number, key_sha256, der, not_before, not_after,
                         session_id, issued_at)
SELECT sha256, serial, key_sha256, der, not_before, not_after, session_id, now() FROM given
"""


def rows_of(devices: Sequence[Device]) -> list[list[Any]]:
    """The columns of REGISTER."""
    rows = []
    for device in devices:
        parsed = x509.load_der_x509_certificate(device.certificate)
        key = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        rows.append(
            (
                hashlib.sha256(device.certificate).digest(),
                f"{parsed.serial_number:x}",
                hashlib.sha256(key).digest(),
                device.certificate,
                parsed.not_valid_before_utc,
                parsed.not_valid_after_utc,
                uuid4(),
                secrets.token_bytes(32),
            )
        )
    return [list(column) for column in zip(*rows, strict=True)]
