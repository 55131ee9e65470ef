"""Settings come from the environment, most particular first."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.runtime.settings import Settings, SettingsError


class Own(Settings):
    limits: dict[str, int] = {}
    names: list[str] = []


def test_the_services_own_variable_wins() -> None:
    environ = {"MUSTER_POOL_SIZE": "5", "MUSTER_INVENTORY_POOL_SIZE": "7"}
    assert Own.load(environ, "inventory").pool_size == 7
    assert Own.load(environ, "compliance").pool_size == 5
    assert Own.load({}, "compliance").pool_size == 10


def test_lists_and_mappings_are_json() -> None:
    environ = {"MUSTER_X_LIMITS": '{"a": 1}', "MUSTER_X_NAMES": '["b"]', "MUSTER_KEYS_DIR": "/k"}
    settings = Own.load(environ, "x")
    assert (settings.limits, settings.names, settings.keys_dir) == ({"a": 1}, ["b"], Path("/k"))


def test_a_bad_value_is_named_but_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Own.load({"MUSTER_POOL_SIZE": "s3cret"}, "x")
    assert "MUSTER_POOL_SIZE" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    settings = Own.load({"MUSTER_KAFKA_PASSWORD": "s3cret", "MUSTER_DATABASE_URL": "s3cret"}, "x")
    assert "s3cret" not in repr(settings)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Own.load({}, "x").pool_size = 3  # type: ignore[misc]


def test_a_plain_listener_beyond_loopback_must_be_wanted() -> None:
    environ = {"MUSTER_DEVICES_HOST": "192.0.2.1"}
    with pytest.raises(SettingsError, match="TLS"):
        Own.load(environ, "x")
    with pytest.raises(SettingsError, match="TLS"):
        Own.load({"MUSTER_API_HOST": "::"}, "x")
    tls = {"MUSTER_DEVICES_TLS_CERT": "c.pem", "MUSTER_DEVICES_TLS_KEY": "k.pem"}
    assert Own.load(environ | tls, "x").listeners["devices"].cert == Path("c.pem")
    assert Own.load(environ | {"MUSTER_TLS_ENDED_BEFORE": "true"}, "x").devices_host == "192.0.2.1"


def test_a_certificate_without_its_key_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="key"):
        Own.load({"MUSTER_DEVICES_TLS_CERT": "c.pem"}, "x")
