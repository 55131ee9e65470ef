"""Every kind of secret that Muster takes, makes or keeps, in one table, and where it is marked.

A field or a column that looks as if it could hold one and is not listed here fails: whoever adds it
says which kind it is, and marks that kind on its way (marked.py), or says why it is none.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import BaseModel

import services
from shared.db.pool import open_pool
from shared.events.registry import EVENTS, SERVICES
from tools.embedded.testing import MakeDatabase

_LOOKS: Final = re.compile(
    r"pass(?!key_id|ed|_by)|secret|token|\bcode|_code|challenge|\bpin\b|_pin|credential(?!_id|_name)"
    r"|magic|ticket|private|profile|payload|verifier|nonce|cookie|recovery|\bseed"
)

FIELDS: Final = {
    "console.OwnerForm.password": "password",
    "console.PasswordForm.password": "password",
    "console.ChangeForm.ticket": "ticket",
    "console.SecretForm.ticket": "ticket",
    "console.SecretForm.secret": "OIDC client secret",
    "console.AnswerForm.code": "OIDC code",
    "console.TokenBody.token": "API token",
    "console.AccessToken.access_token": "access token",
    "push_notifier.CertificateUpload.private_key": "push private key",
    "command_queue.ConfigurationInstall.profile": "Wi-Fi password",
    "console.ActionForm.profile": "Wi-Fi password",
    "console.BulkForm.profile": "Wi-Fi password",
    "command_queue.ReturnToService.wifi_profile": "Wi-Fi password",
    "command_queue.ReturnToService.mdm_profile": "Wi-Fi password",
    "command_queue.Raw.payload": "raw",
    "command_queue.DeviceErase.pin": "secret in a bad request",
    "command_queue.DeviceLock.pin": "secret in a bad request",
    "enrollment.ImportRow.push_token": "push token",
    "enrollment.ImportRow.push_magic": "push magic",
    "enrollment.ImportRow.unlock_token": "unlock token",
    "enrollment.ImportRow.bootstrap_token": "bootstrap token",
    "enrollment.RenewalProfile.profile": "challenge",
    "events.ChannelState.unlock_token": "unlock token",
}
"""Fields of what people, devices and services send or get, by kind."""
OTHERS: Final = {
    "session cookie",
    "token of a page",
    "set-up link",
    "link to join",
    "seed of an app",
    "OIDC state",
    "webhook secret",
    "credential",
    "challenge",
    "key of a service",
    "password of the database",
    "recovery key",
    "password of a push key",
}
"""Kinds that are in no model's field: paths, headers, pages, answers of devices, settings."""
NONE: Final = {
    "console.CodeForm.code": "six digits that count once, for a minute",
    "console.CodeBody.code": "six digits that count once, for a minute",
    "console.NewKey.credential": "what an authenticator proves: public",
    "console.KeyAnswer.credential": "what an authenticator proves, once",
    "console.KeyBody.credential": "what an authenticator proves, once",
    "console.Word.credential": "what an authenticator proves, once",
    "command_queue.SecretView.secret_id": "names one; tests/command_queue/test_escrow.py has PINs",
    "command_queue.Approve.credential": "what an authenticator proves, once",
    "enrollment.EnrollmentView.bootstrap_token_escrowed": "yes or no",
    "enrollment.ImportedRow.code": "of a problem",
    "enrollment.RowWarning.code": "of a problem",
    "enrollment.ImportRow.profile": "the identifier of what is installed, and its rights",
    "events.ErrorDetail.code": "of an error",
    "events.ApproverKey.passkey_id": "names a key",
    "events.PushFailed.token_dead": "yes or no",
    "events.CommandFinished.profile": "of a device's answer",
}
COLUMNS: Final = {
    "sealed": {
        "enrollment.authority.key",
        "enrollment.channel.push",
        "enrollment.channel.push_sealed",
        "enrollment.channel.unlock_sealed",
        "enrollment.channel.unlock_token",
        "enrollment.enrollment.bootstrap_token",
        "command_queue.channel.unlock_token",
        "command_queue.command.body",
        "command_queue.escrow.sealed",
        "command_queue.holding.salt",
        "command_queue.outcome.secrets",
        "command_queue.pending.body",
        "command_queue.request_key.digest",
        "command_queue.waiting.body",
        "push_notifier.certificate_request.key",
        "push_notifier.former_push_certificate.key",
        "push_notifier.push_certificate.key",
        "console.identity_provider.client_secret",
        "console.totp.offered",
        "console.totp.secret",
        "console.webhook.secret",
    },
    "hashed": {
        "enrollment.credential.token_sha256",
        "enrollment.session.challenge_sha256",
        "console.account.password_hash",
        "console.account_link.token_hash",
        "console.api_token.token_hash",
        "console.ceremony.challenge",
        "console.identity_flow.browser_hash",
        "console.identity_flow.link_hash",
        "console.identity_flow.state_hash",
        "console.sealed_ceremony.browser_hash",
        "console.sealed_ceremony.challenge",
        "console.session.secret_hash",
        "console.setup.token_hash",
        "console.step_up.digest",
        "command_queue.canary.content",
        "command_queue.change.content",
        "command_queue.holding.content",
    },
    "public": {
        "enrollment.authority.certificate",
        "enrollment.certificate.der",
        "enrollment.certificate.key_sha256",
        "enrollment.certificate.sha256",
        "enrollment.crl.der",
        "enrollment.enrollment.authenticated_with",
        "enrollment.installed_profile.profile",
        "enrollment.session.certificate_sha256",
        "command_queue.approval.authenticator_data",
        "command_queue.approval.client_data",
        "command_queue.approval.credential_id",
        "command_queue.approval.digest",
        "command_queue.approval.signature",
        "command_queue.approver_key.credential_id",
        "command_queue.approver_key.public_key",
        "command_queue.command.profile_identifier",
        "command_queue.command.secret",
        "command_queue.pin.sha256",
        "push_notifier.certificate_request.public_key",
        "configuration.declaration_set.token",
        "console.account.password_at",
        "console.api_token.token_id",
        "console.audit.content_hash",
        "console.audit.hash",
        "console.audit.previous",
        "console.audit.salt",
        "console.audit_chain.hash",
        "console.audit_key.public_key",
        "console.audit_root.hash",
        "console.audit_root.heads",
        "console.audit_root.previous",
        "console.audit_root.signature",
        "console.audit_root_head.hash",
        "console.passkey.credential_id",
        "console.passkey.passkey_id",
        "console.passkey.public_key",
    },
}
"""Columns of bytes, or with such a name: searched by every test of marked secrets as well."""
_TRAVELS: Final = re.compile(r"(outbox\.payload|dead_letter\.record_(key|value))$")
"""What others were told, or told us: events, which are held against FIELDS."""
_COLUMNS: Final = """
SELECT c.table_name || '.' || c.column_name FROM information_schema.columns AS c
JOIN information_schema.tables AS t USING (table_schema, table_name)
WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'
  AND (c.data_type = 'bytea' OR c.column_name ~ $1)
  AND c.column_name !~ '(_id|_by|_at|_name)$' AND c.data_type NOT IN ('smallint', 'bigint')
  AND c.table_name !~ '_(default|[0-9]{8}|p[0-9]+)$'
"""


def _fields() -> Iterator[str]:
    for module in pkgutil.walk_packages(services.__path__, "services."):
        importlib.import_module(module.name)
    waiting = list(BaseModel.__subclasses__())
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        room = model.__module__.split(".")
        if room[0] == "services" and not room[-1].startswith("settings"):
            yield from (f"{room[1]}.{model.__name__}.{name}" for name in model.model_fields)
        elif room[:2] == ["shared", "events"]:
            yield from (f"events.{model.__name__}.{name}" for name in model.model_fields)


def test_every_field_that_looks_like_a_secret_is_listed() -> None:
    assert EVENTS  # they are among the models
    looking = {one for one in _fields() if _LOOKS.search(one.rpartition(".")[2])}
    assert looking - FIELDS.keys() - NONE.keys() == set(), "say here what these are"
    assert FIELDS.keys() - looking == set(), "these are gone"


def test_every_kind_is_marked_on_its_way() -> None:
    here = Path(__file__)
    texts = [one.read_text() for one in here.parent.glob("*.py") if one != here]
    kinds = set(FIELDS.values()) | OTHERS
    assert {one for one in kinds if not any(f'"{one}"' in text for text in texts)} == set()


async def test_every_column_that_looks_like_a_secret_is_listed(make_database: MakeDatabase) -> None:
    looking: set[str] = set()
    for service in SERVICES:
        pool = await open_pool(await make_database(service), name="test")
        pattern = "pass|secret|token|challenge|(^|_)pin|magic|ticket|private|nonce|profile|payload"
        rows = await pool.fetch(_COLUMNS, pattern)
        looking |= {f"{service}.{row[0]}" for row in rows if not _TRAVELS.search(row[0])}
        await pool.close()
    listed = set().union(*COLUMNS.values())
    assert looking - listed == set(), "say here what these are"


@pytest.mark.parametrize("column", ["hashed", "sealed", "public"])
def test_a_column_is_one_thing(column: str) -> None:
    others = set().union(*(names for kind, names in COLUMNS.items() if kind != column))
    assert COLUMNS[column] & others == set()
