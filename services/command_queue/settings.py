"""The settings of command_queue: `MUSTER_COMMAND_QUEUE_<FIELD>`."""

from __future__ import annotations

from pydantic import Field

from shared.runtime.settings import Settings


class CommandQueueSettings(Settings):
    accept_sha1: bool = True
    """Clients in the field sign Mdm-Signature with SHA-1 (apple.md §1.12 note 3)."""
    signing_age_seconds: int = Field(default=86_400, ge=60)
    """A signature that tells an older signing time is refused: it may be a replay."""

    destructive_per_hour: int = Field(default=5, ge=0)
    """Targets of destructive commands in any hour, for everybody together; beyond: held."""
    destructive_per_day: int = Field(default=25, ge=0)
    management_profile_prefixes: list[str] = ["org.muster."]
    """Identifiers of Muster's own profiles: removing one ends management."""

    max_targets: int = Field(default=200_000, ge=1)
    """Devices of one command."""
    fan_out_share: float = Field(default=0.05, gt=0, le=1)
    """Part of the time that goes into expanding large commands: polls must not feel them."""
    unknown_device_seconds: int = Field(default=600, ge=1)
    """How long a target whose device is not known yet is waited for."""
    unanswered_seconds: int = Field(default=86_400, ge=0)
    """How long after its expiry the answer to a command that was handed out is waited for."""
    history_days: int = Field(default=400, ge=120)
    """Outcomes and ended commands older than this are dropped; a command may live for 90 days."""

    seen_flush_seconds: float = Field(default=10.0, gt=0)
    max_waiting: int = Field(default=2000, ge=1)
    """Requests of devices that may wait for a batch; beyond: 503."""
    max_batch: int = Field(default=256, ge=1)
    large_bodies: int = Field(default=2, ge=1)
    """Bodies above a megabyte that are in memory at the same time."""
