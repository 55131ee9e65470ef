r"""One simulated device: it enrolls, checks in and connects, honestly or however a test asks.

    device = SimulatedDevice(seed="acceptance", index=3)
    await device.enroll(session, enroll_url)
    reply = await device.connect()                    # Idle
    reply = await device.connect("Acknowledged", reply.command)
    reply = await device.connect(signing=signing.UNSIGNED)
    reply = await device.send(device.connect_url, b"\0 rubbish")

Nothing raises for a refusal over HTTP: every request returns a `Reply` with the raw status. Only
`enroll` and `renew`, which are many steps, raise EnrollmentError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from tools.simulator import enrollment as enrollments
from tools.simulator import state as states
from tools.simulator import traits as people
from tools.simulator.catalogue import Kind
from tools.simulator.enrollment import Enrollment
from tools.simulator.keys import KeyStore
from tools.simulator.link import Link
from tools.simulator.receipts import Receipts
from tools.simulator.signing import HONEST, Signing
from tools.simulator.traits import DEFAULT_MIX, User
from tools.simulator.wire import profile as profiles
from tools.simulator.wire import scep
from tools.simulator.wire.cms import Identity
from tools.simulator.wire.messages import CHECK_IN_TYPE, CONNECT_TYPE, Command, Reply, xml
from tools.simulator.wire.profile import Profile, ScepPayload
from tools.simulator.wire.scepclient import Options, ScepClient

PROFILE_TYPE = "application/x-apple-aspen-config"


class EnrollmentError(Exception):
    """An enrollment ended before it was complete; `reply` is the refusal, where there was one."""

    def __init__(self, step: str, why: str, reply: Reply | None = None) -> None:
        super().__init__(f"{step}: {why}")
        self.step = step
        self.reply = reply


class SimulatedDevice:
    """A device of fleet `seed`: equal seed and index are the same hardware.

    `enrollment` is None while it is not managed; `life` counts its enrollments, and `erased_in` is
    the one in which it was last erased (0: never). `state` is what it is like now; `receipts` holds
    every command it was given; `complaints` counts what the server did against the protocol.
    `link` is how its requests travel: method, signature, patience with a busy server.
    """

    def __init__(
        self,
        seed: str = "muster",
        index: int = 0,
        *,
        kind: Kind | None = None,
        mix: Mapping[Kind, int] = DEFAULT_MIX,
        keys: KeyStore | None = None,
        session: aiohttp.ClientSession | None = None,
        scep_options: Options | None = None,
        signing: Signing = HONEST,
    ) -> None:
        self.traits = people.draw(seed, index, kind=kind, mix=mix)
        self.state = states.fresh(self.traits)
        self.enrollment: Enrollment | None = None
        self.life = 0
        self.erased_in = 0
        self.receipts = Receipts()
        self.complaints: Counter[str] = Counter()
        agent = "mdmclient/1.0" if self.traits.is_mac else "MDM/1.0"
        self.link = Link(session, signing, user_agent=agent)
        self.scep_options = scep_options or Options()
        self._keys = keys or KeyStore(workers=1)

    # What it is and holds

    @property
    def udid(self) -> str:
        return self.traits.udid

    @property
    def managed(self) -> Enrollment:
        """The present enrollment. Raises RuntimeError when there is none."""
        if self.enrollment is None:
            raise RuntimeError(f"{self.udid} is not enrolled")
        return self.enrollment

    @property
    def identity(self) -> Identity:
        return self.managed.identity

    @property
    def check_in_url(self) -> str:
        return self.managed.mdm.check_in_url

    @property
    def connect_url(self) -> str:
        return self.managed.mdm.server_url

    # Enrolling

    async def enroll(self, session: aiohttp.ClientSession, enroll_url: str) -> None:
        """From the profile's address to the first TokenUpdate. Raises EnrollmentError."""
        self.link.session = session
        await self.enroll_with(await self.fetch_profile(enroll_url))

    async def enroll_with(self, profile: Profile) -> None:
        """Install an enrollment profile: a new key and certificate, then the check-ins.

        The old enrollment stays as it was unless Authenticate is accepted.
        """
        prepared = await self.prepare(profile)
        accepted = await self.authenticate(prepared)
        if not accepted.ok:
            raise EnrollmentError("Authenticate", f"answered {accepted.status}", accepted)
        self.enrollment = prepared
        self.state.profiles[profile.identifier] = profile
        for step, reply in (
            ("TokenUpdate", await self.token_update()),
            ("SetBootstrapToken", await self.set_bootstrap_token()),
        ):
            if reply is not None and not reply.ok:
                raise EnrollmentError(step, f"answered {reply.status}", reply)

    async def fetch_profile(self, enroll_url: str) -> Profile:
        reply = await self.link.patiently("GET", enroll_url, b"", self.link.headers(b"", None))
        if not reply.ok:
            raise EnrollmentError("profile", f"answered {reply.status}", reply)
        if reply.headers.get("Content-Type") != PROFILE_TYPE:
            self._complain(f"the profile is served as {reply.headers.get('Content-Type')!r}")
        try:
            return profiles.read(reply.body)
        except profiles.ProfileError as error:
            raise EnrollmentError("profile", str(error), reply) from error

    async def prepare(self, profile: Profile) -> Enrollment:
        """A new key and its certificate from SCEP; the server knows of no enrollment yet."""
        self.life += 1
        try:
            _, payload = profiles.mdm_payload(profile)
            key = await self._keys.get(self.traits.index, self.life, payload.key_size)
            issued = await self._scep(payload).enroll(key)
        except (scep.ScepError, aiohttp.ClientError, ValueError, TypeError) as error:
            raise EnrollmentError("SCEP", str(error)) from error
        identity = Identity(key, issued.certificate)
        return enrollments.begin(self.traits, profile, identity, self.life)

    async def renew(self) -> None:
        """A new certificate by RenewalReq; the caller has yet to Authenticate with it."""
        self.life += 1
        payload = self.managed.scep
        try:
            key = await self._keys.get(self.traits.index, self.life, payload.key_size)
            issued = await self._scep(payload).renew(key, self.identity)
        except (scep.ScepError, aiohttp.ClientError) as error:
            raise EnrollmentError("SCEP renewal", str(error)) from error
        self.managed.identity = Identity(key, issued.certificate)

    def _scep(self, payload: ScepPayload) -> ScepClient:
        if self.link.session is None:
            raise EnrollmentError("SCEP", "the device has no session")
        return ScepClient(self.link.session, payload, self.scep_options)

    def forget_enrollment(self) -> None:
        """Management ends without a word to the server, as after a 401 or a removed profile."""
        if self.enrollment is not None:
            self.state.profiles.pop(self.enrollment.profile.identifier, None)
        self.enrollment = None

    def erase(self) -> None:
        """Factory fresh: no enrollment, no profiles, as its next user sets it up."""
        self.enrollment = None
        self.erased_in = self.life
        self.state = states.fresh(self.traits, self.life)

    # Check-ins

    def message(self, message_type: str, user: User | None = None, **more: Any) -> dict[str, Any]:
        """A check-in message with this device's (and the user's) identifiers."""
        return {"MessageType": message_type, **self._ids(user), **more}

    async def authenticate(self, enrollment: Enrollment | None = None) -> Reply:
        """Authenticate, with a prepared enrollment or again with the present one."""
        chosen = enrollment or self.managed
        details = enrollments.authenticate_details(self.traits, chosen.mdm.access_rights)
        message = self.message("Authenticate", Topic=chosen.mdm.topic) | details
        return await self._check_in_patiently(message, chosen)

    async def token_update(self, user: User | None = None, **more: Any) -> Reply:
        """TokenUpdate of the device, or of a user, whose channel this opens."""
        enrollment = self.managed
        push = enrollment.push
        extra: dict[str, Any] = {"AwaitingConfiguration": False}
        if user is not None:
            push = enrollments.user_channel(self.traits, enrollment, user)
            extra = {"NotOnConsole": False}
        elif enrollment.unlock_token is not None:
            extra["UnlockToken"] = enrollment.unlock_token
        message = self.message("TokenUpdate", user, Topic=enrollment.mdm.topic)
        message |= {"Token": push.token, "PushMagic": push.magic, **extra, **more}
        return await self._check_in_patiently(message)

    async def set_bootstrap_token(self, token: bytes | None = None) -> Reply | None:
        """Escrow the bootstrap token: Macs only, and only where the profile offers it."""
        chosen = self.managed.bootstrap_token if token is None else token
        if chosen is None:
            return None
        message = self.message(
            "SetBootstrapToken", BootstrapToken=chosen, AwaitingConfiguration=False
        )
        return await self._check_in_patiently(message)

    async def get_bootstrap_token(self) -> bytes | None:
        """The token the server keeps; None when it keeps none."""
        reply = await self.checkin(self.message("GetBootstrapToken", AwaitingConfiguration=False))
        return ((reply.plist or {}).get("BootstrapToken")) or None

    async def check_out(self) -> Reply:
        """CheckOut is sent once; whatever is answered, the device is no longer managed."""
        reply = await self.checkin(self.message("CheckOut", Topic=self.managed.mdm.topic))
        self.forget_enrollment()
        return reply

    async def checkin(
        self,
        message: Mapping[str, Any] | bytes,
        *,
        signing: Signing | None = None,
        method: str | None = None,
        content_type: str | None = CHECK_IN_TYPE,
    ) -> Reply:
        """Send a check-in just as given: a dictionary, or any bytes."""
        body = message if isinstance(message, bytes) else xml(message)
        return await self.send(
            self.check_in_url, body, signing=signing, method=method, content_type=content_type
        )

    async def _check_in_patiently(
        self, message: Mapping[str, Any], enrollment: Enrollment | None = None
    ) -> Reply:
        chosen = enrollment or self.managed
        body = xml(message)
        headers = self.link.headers(body, CHECK_IN_TYPE, _signer(chosen))
        reply = await self.link.patiently(self.link.method, chosen.mdm.check_in_url, body, headers)
        self._complain(*reply.complaints(expects_body=False))
        return reply

    # Connecting

    async def connect(
        self,
        status: str = "Idle",
        command: Command | str | None = None,
        *,
        user: User | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        extra: Mapping[str, Any] | None = None,
        signing: Signing | None = None,
        method: str | None = None,
        content_type: str | None = CONNECT_TYPE,
        lose_reply: bool = False,
    ) -> Reply:
        """Report `status` (of `command`) and take the next command: `reply.command` or None.

        `lose_reply`: as if the answer never reached the device, which records nothing of it.
        """
        message: dict[str, Any] = {"Status": status, **self._ids(user)}
        uuid = command.uuid if isinstance(command, Command) else command
        if uuid is not None:
            message["CommandUUID"] = uuid
        if errors:
            message["ErrorChain"] = [dict(error) for error in errors]
        message |= extra or {}
        if uuid is not None:
            self.receipts.answered(uuid, status)
        reply = await self.send(
            self.connect_url,
            xml(message),
            signing=signing,
            method=method,
            content_type=content_type,
        )
        if lose_reply:
            return reply
        self._complain(*reply.complaints(expects_body=True))
        if reply.command is not None:
            self.receipts.given(reply.command, user.user_id if user else None)
        elif reply.ok and reply.body:
            self._complain("the answer to a connect holds no command")
        return reply

    async def send(
        self,
        url: str,
        body: bytes,
        *,
        signing: Signing | None = None,
        method: str | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Any bytes to any address, signed as told; `headers` win over the usual ones."""
        identity = self.identity if signing else _signer(self.managed)
        usual = self.link.headers(body, content_type, identity, signing)
        return await self.link.request(
            method or self.link.method, url, body, {**usual, **(headers or {})}
        )

    def _ids(self, user: User | None) -> dict[str, str]:
        if user is None:
            return {"UDID": self.udid}
        return {
            "UDID": self.udid,
            "UserID": user.user_id,
            "UserShortName": user.short_name,
            "UserLongName": user.long_name,
        }

    def _complain(self, *complaints: str) -> None:
        self.complaints.update(complaints)


def _signer(enrollment: Enrollment) -> Identity | None:
    """Who signs: nobody, where the profile does not ask for it (SignMessage)."""
    return enrollment.identity if enrollment.mdm.sign_message else None
