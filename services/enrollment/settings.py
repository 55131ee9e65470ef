"""How enrollment is set up; prefix `MUSTER_ENROLLMENT_`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field

from shared.runtime.settings import Settings


class EnrollmentSettings(Settings):
    """Times are seconds unless the name says otherwise."""

    organisation: str = Field(default="Muster", max_length=60)
    """Stands in profiles and certificate subjects, for people to read."""
    ca_name: str = Field(default="Device Identity CA", max_length=60)
    ca_years: int = Field(default=15, ge=1, le=30)
    leaf_days: int = Field(default=1_095, ge=1, le=3_650)
    """Of device identities."""

    server_roots: Path | None = None
    """PEM file of the CA behind the device listener's certificate, where no public CA issued it:
    it goes into every profile."""

    signature_max_age: int = Field(default=86_400, ge=60)
    """Where a signature tells its time: how old it may be; bounds the replay of old ones."""
    allow_sha1: bool = True
    """For Mdm-Signature only: clients in the field still sign so (apple.md §1.12, 3)."""
    allow_des: bool = True
    """SCEP requests in single DES, the default of Go clients (apple.md §1.6)."""

    session_lifetime: int = Field(default=3_600, ge=60)
    """From the profile to its certificate."""
    renewal_lifetime: int = Field(default=7 * 86_400, ge=60)
    """The same for a profile that is sent again by a command."""
    credential_days: int = Field(default=7, ge=1, le=365)
    """A credential's life when its maker names none."""

    crl_valid: int = Field(default=86_400, ge=3_600)
    crl_every: int = Field(default=3_600, ge=60)
    """How often a CRL is signed anew when nothing was revoked."""
    crl_check: float = Field(default=20.0, gt=0)
    """How often to look for revocations that no CRL holds yet; they must be in one in a minute."""
    ocsp_valid: int = Field(default=600, ge=60)

    fence_every: float = Field(default=5.0, gt=0)
    forget_after_days: int = Field(default=30, ge=1)
    """Sessions that were never used, and credentials that are over, are kept so long."""

    lobby_threshold: int = Field(default=50, ge=1, le=100)
    """The score from which on an enrollment waits for a person (decision 56)."""
    lobby_days: int = Field(default=7, ge=1, le=90)
    """Who waits longer is refused."""
    lobby_address_limit: int = Field(default=200, ge=1, le=10_000)
    """Profiles that one address may ask for in the window before what it enrolls waits."""
    lobby_address_window: int = Field(default=3_600, ge=60, le=30 * 86_400)
    lobby_credential_addresses: int = Field(default=20, ge=1, le=10_000)
    """Other addresses that a credential may have been used from before what enrolls waits."""
    lobby_uncounted: tuple[IPv4Network | IPv6Network, ...] = (
        ip_network("127.0.0.0/8"),
        ip_network("::1/128"),
    )
    """Peers that say nothing of where a device is, our own proxies: no rule counts by them."""

    ownership_wait_hours: int = Field(default=72, ge=1, le=720)
    """How long a personal device stays personal after somebody asked to make it corporate."""

    newcomer_patience: float = Field(default=30.0, ge=1)
    """How long a new device may take to its TokenUpdate before others hear of it as pending."""
    newcomers_every: float = Field(default=10.0, gt=0)
    retell_every: float = Field(default=60.0, gt=0)
    retell_days: int = Field(default=7, ge=1, le=90)
    """In about so many days the state of every device is told anew (decision 31)."""
