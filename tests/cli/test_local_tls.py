"""The server certificate of the embedded default: one openssl and a browser would take."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tools.cli import local_tls


def _leaf(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_openssl_takes_it_for_the_names_it_serves(tmp_path: Path) -> None:
    tls = local_tls.ensure(tmp_path)
    openssl = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver"]
    for check in (["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]):
        done = subprocess.run(
            [*openssl, *check, "-CAfile", str(tls.authority), str(tls.cert)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert _leaf(tls.cert).not_valid_after_utc - datetime.now(UTC) < timedelta(days=825)
    assert tls.key.stat().st_mode & 0o077 == 0


def test_it_is_kept_until_it_must_be_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _leaf(local_tls.ensure(tmp_path).cert)
    assert _leaf(local_tls.ensure(tmp_path).cert) == first
    monkeypatch.setattr(local_tls, "_RENEW", timedelta(days=500))
    renewed = _leaf(local_tls.ensure(tmp_path).cert)
    assert renewed.serial_number != first.serial_number
    assert renewed.issuer == first.issuer


def test_another_name_gets_another_certificate(tmp_path: Path) -> None:
    first = _leaf(local_tls.ensure(tmp_path).cert)
    other = _leaf(local_tls.ensure(tmp_path, "mdm.example.test").cert)
    names = other.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "mdm.example.test" in names.get_values_for_type(x509.DNSName)
    assert other != first
