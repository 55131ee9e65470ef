"""One frozen model of settings a service, read from the environment once, at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

ListenerName = Literal["devices", "api", "internal"]


class SettingsError(ValueError):
    """The environment holds a value that cannot be; the message names the variable."""


@dataclass(frozen=True)
class Listener:
    """Where one kind of peer connects; `cert` and `key` (PEM files) turn TLS on."""

    name: ListenerName
    host: str
    port: int
    cert: Path | None = None
    key: Path | None = None


class Settings(BaseModel):
    """What every service needs; a service adds its own fields in `settings.py`.

    Field `x` of the service `inventory` comes from `MUSTER_INVENTORY_X`, else `MUSTER_X`, else the
    default. Lists and mappings are written as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: str = Field(default="", repr=False)
    pool_size: int = Field(default=10, ge=2, le=100)
    """Connections at most for people's requests and jobs; each is opened when first needed."""
    road_size: int = Field(default=8, ge=2, le=100)
    """Connections at most for batches of devices and of events."""
    kafka_bootstrap: str = ""
    kafka_username: str | None = None
    kafka_password: str | None = Field(default=None, repr=False)
    kafka_ca_file: Path | None = None
    """The authority of the broker's certificate (PEM); with it everything goes over TLS."""
    keys_dir: Path = Path(".muster/keys")

    public_url: str = "https://localhost:8443"
    """What devices are told to connect to; it never changes once devices are enrolled."""
    api_url: str = "http://localhost:8080"
    internal_urls: dict[str, str] = {}
    """Service name to the base URL of its internal listener."""

    devices_host: str = "127.0.0.1"
    devices_port: int = Field(default=8443, ge=0, le=65535)
    devices_tls_cert: Path | None = None
    devices_tls_key: Path | None = None
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8080, ge=0, le=65535)
    internal_host: str = "127.0.0.1"
    internal_port: int = Field(default=8081, ge=0, le=65535)
    tls_ended_before: bool = False
    """A proxy or ingress in front ends TLS: plain listeners beyond loopback are wanted."""
    max_connections: int = Field(default=10_000, ge=1)
    """Open connections on one listener; beyond it a new one is closed at once."""
    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of request bodies in memory, all of a listener together; beyond: 503."""

    outbound_networks: list[IPv4Network | IPv6Network] = []
    """Networks that are not public, and may be called at addresses that people supply: where the
    company's own identity provider or webhook receiver is. All others that are not public are
    refused."""
    outbound_loopback: bool = False
    """This machine may be called as well, without TLS too: for tests and for trying things out."""
    outbound_ca_file: Path | None = None
    """Authorities (PEM) that servers at those addresses are trusted by, in the place of the
    system's."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    otlp_endpoint: str | None = None
    """`http://collector:4318`; None: no traces leave the process."""
    trace_share: float = Field(default=0.05, ge=0, le=1)
    """Which share of traces is recorded, decided where a trace begins; 1 records all."""
    background_nice: int = Field(default=19, ge=0, le=19)
    """Niceness of a process without the role `http`: on a busy machine it gets a seventieth of what
    one with that role gets, of services that somebody waits for (10) a ninth; 0: as much."""
    shutdown_seconds: float = Field(default=20.0, gt=0)
    """How long requests in progress may take after SIGTERM."""
    drain_seconds: float = Field(default=0.0, ge=0)
    """How long after SIGTERM, unready, it still takes connections: until a load balancer that asks
    /readyz or follows the pod's end has turned away."""
    linger_seconds: float = Field(default=5.0, ge=0)
    """How long a silent kept-alive connection may then still bring its next, last request."""
    listen_fds: dict[ListenerName, list[int]] = {}
    """Listening sockets that the parent opened: set by `muster run --processes` alone."""
    schema_wait_seconds: float = Field(default=120.0, ge=0)
    """How long a starting service waits for the migration job to bring its schema."""

    @classmethod
    def load(cls, environ: Mapping[str, str], service: str | None = None) -> Self:
        """Read the environment; `service` follows from the module when it is not given."""
        prefix = f"MUSTER_{(service or _service_of(cls)).upper()}_"
        values: dict[str, Any] = {}
        for name in cls.model_fields:
            for variable in (prefix + name.upper(), "MUSTER_" + name.upper()):
                if variable in environ:
                    values[name] = _value(environ[variable])
                    break
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_explain(error, prefix)) from None

    @model_validator(mode="after")
    def _plain_only_on_loopback(self) -> Self:
        if (self.devices_tls_cert is None) != (self.devices_tls_key is None):
            raise ValueError(
                "DEVICES_TLS_CERT and DEVICES_TLS_KEY belong together: set the key too"
            )
        for listener in self.listeners.values():
            plain = listener.cert is None and not self.tls_ended_before
            if plain and listener.name != "internal" and not _is_loopback(listener.host):
                raise ValueError(
                    f"the {listener.name} listener would speak without TLS beyond this machine: "
                    "set MUSTER_TLS_ENDED_BEFORE=true if a proxy in front ends TLS"
                )
        return self

    @property
    def listeners(self) -> dict[ListenerName, Listener]:
        return {
            "devices": Listener(
                "devices",
                self.devices_host,
                self.devices_port,
                self.devices_tls_cert,
                self.devices_tls_key,
            ),
            "api": Listener("api", self.api_host, self.api_port),
            "internal": Listener("internal", self.internal_host, self.internal_port),
        }


def _service_of(model: type[Settings]) -> str:
    parts = model.__module__.split(".")
    return parts[1] if parts[0] == "services" and len(parts) > 1 else ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _value(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _explain(error: ValidationError, prefix: str) -> str:
    """Names and reasons only: a value may be a password."""
    return "; ".join(
        _named(problem["loc"], prefix) + problem["msg"]
        for problem in error.errors(include_input=False, include_url=False)
    )


def _named(place: tuple[int | str, ...], prefix: str) -> str:
    if not place:
        return ""
    name = str(place[0]).upper()
    return f"{prefix}{name} (or MUSTER_{name}): "
