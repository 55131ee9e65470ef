"""What a device holds while it is managed: identity, push channels, tokens."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field

from tools.simulator.traits import Traits, User
from tools.simulator.wire import profile as profiles
from tools.simulator.wire.cms import Identity
from tools.simulator.wire.profile import MdmPayload, Profile, ScepPayload

RIGHT_TO_CLEAR_PASSCODE = 4
BOOTSTRAP_TOKENS = "com.apple.mdm.bootstraptoken"
USER_CHANNELS = "com.apple.mdm.per-user-connections"
_TOKEN_SIZE = 32


@dataclass(frozen=True, slots=True)
class PushChannel:
    """Where pushes for one channel arrive, and the word they must bring."""

    token: bytes
    magic: str


@dataclass(slots=True)
class Enrollment:
    """One enrollment, from Authenticate to its end. `life` counts a device's enrollments."""

    profile: Profile
    mdm: MdmPayload
    scep: ScepPayload
    identity: Identity
    life: int
    push: PushChannel
    unlock_token: bytes | None
    bootstrap_token: bytes | None
    users: dict[str, tuple[User, PushChannel]] = field(default_factory=dict)

    def push_for(self, user: User | None) -> PushChannel:
        return self.push if user is None else self.users[user.user_id][1]


def begin(traits: Traits, profile: Profile, identity: Identity, life: int) -> Enrollment:
    """A new enrollment; its tokens are other ones in each life. Raises ProfileError."""
    mdm, scep = profiles.mdm_payload(profile)
    source = traits.random(f"enrollment/{life}")
    unlocks = not traits.is_mac and mdm.access_rights & RIGHT_TO_CLEAR_PASSCODE
    escrows = traits.is_mac and BOOTSTRAP_TOKENS in mdm.capabilities
    return Enrollment(
        profile=profile,
        mdm=mdm,
        scep=scep,
        identity=identity,
        life=life,
        push=_push_channel(source),
        unlock_token=source.randbytes(1200) if unlocks else None,
        bootstrap_token=source.randbytes(64) if escrows else None,
    )


def user_channel(traits: Traits, enrollment: Enrollment, user: User) -> PushChannel:
    """Open the channel of `user` in this enrollment; asking twice gives the same one."""
    if user.user_id not in enrollment.users:
        source = traits.random(f"user/{enrollment.life}/{user.user_id}")
        enrollment.users[user.user_id] = (user, _push_channel(source))
    return enrollment.users[user.user_id][1]


def _push_channel(source: random.Random) -> PushChannel:
    magic = uuid.UUID(int=source.getrandbits(128), version=4)
    return PushChannel(source.randbytes(_TOKEN_SIZE), str(magic).upper())


def authenticate_details(traits: Traits, rights: int) -> dict[str, str]:
    """What Authenticate says of the device; iOS tells it only under right 16 (apple.md 1.2)."""
    details = {
        "BuildVersion": traits.release.build,
        "OSVersion": traits.release.version,
        "ProductName": traits.model.product_name,
        "SerialNumber": traits.serial,
    }
    if traits.is_mac:
        return {
            "DeviceName": traits.device_name,
            "Model": traits.model.product_name,
            "ModelName": traits.model.model_name,
            **details,
        }
    if not rights & 16:
        return {}
    return {**details, "IMEI": traits.imei} if traits.imei else details
