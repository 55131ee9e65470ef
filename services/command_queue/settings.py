"""The settings of command_queue: `MUSTER_COMMAND_QUEUE_<FIELD>`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field

from shared.runtime.settings import Settings

_DAY = 24 * 60


class Window(BaseModel):
    """How many targets a budget has in any stretch of time of this length: a number that any
    installation may lose, or a share of the fleet where that is more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: int = Field(ge=1, le=30 * _DAY)
    least: int = Field(ge=0)
    share: float = Field(default=0, ge=0, le=1)

    @property
    def length(self) -> timedelta:
        return timedelta(minutes=self.minutes)

    @property
    def words(self) -> str:
        """For people, and as a metric's label."""
        if self.minutes % _DAY == 0:
            return _counted(self.minutes // _DAY, "day")
        if self.minutes % 60 == 0:
            return _counted(self.minutes // 60, "hour")
        return _counted(self.minutes, "minute")

    def limit(self, fleet: int) -> int:
        return max(self.least, int(self.share * fleet))


def _counted(number: int, unit: str) -> str:
    return f"one {unit}" if number == 1 else f"{number} {unit}s"


class CommandQueueSettings(Settings):
    background_nice: int = Field(default=10, ge=0, le=19)
    """People wait until what they ask for is in devices' queues (decision 60)."""
    accept_sha1: bool = True
    """Clients in the field sign Mdm-Signature with SHA-1 (apple.md §1.12 note 3)."""
    signing_age_seconds: int = Field(default=86_400, ge=60)
    """A signature that tells an older signing time is refused: it may be a replay."""

    destructive_of_actor: tuple[Window, ...] = (
        Window(minutes=10, least=5),
        Window(minutes=_DAY, least=25),
        Window(minutes=30 * _DAY, least=50),
    )
    """Targets of destructive commands that one person may reach in a while; beyond: held."""
    destructive_of_all: tuple[Window, ...] = (
        Window(minutes=60, least=2, share=0.005),
        Window(minutes=_DAY, least=5, share=0.02),
        Window(minutes=7 * _DAY, least=5, share=0.04),
    )
    """The same for everybody together."""
    disruptive_of_actor: tuple[Window, ...] = (Window(minutes=10, least=50),)
    disruptive_of_all: tuple[Window, ...] = (Window(minutes=60, least=50, share=0.05),)
    reveals_of_actor: tuple[Window, ...] = (
        Window(minutes=60, least=5),
        Window(minutes=_DAY, least=20),
    )
    """Secrets that one person may be shown in a while."""
    console_url: str = ""
    """Where people open the console: what their keys answer for. Empty: `api_url`."""
    new_power_hours: int = Field(default=72, ge=0)
    """How old the youngest of an approver's role, key and account must be."""
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

    @property
    def console_address(self) -> str:
        return self.console_url or self.api_url

    @property
    def new_power_waits(self) -> timedelta:
        return timedelta(hours=self.new_power_hours)
