"""`python -m tools.bench.micro`: what the pure parts of one device request cost, without a server.

A JSON line for each: the least and the median of many rounds, in microseconds a call. On a shared
machine the least is the figure to compare.
"""

from __future__ import annotations

import argparse
import base64
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from opentelemetry.sdk.trace import SpanProcessor

from shared.apple import cms, plist
from shared.bus import tracing
from shared.events import Meta, uuid7
from shared.events.commands import DeviceSeen
from shared.runtime import traces
from tools.simulator.wire import cms as wire
from tools.simulator.wire import scep
from tools.simulator.wire.messages import xml

_ROUND: Final = 0.01
"""Seconds a round: short enough that some rounds are not interrupted."""
_ATTRIBUTES: Final = {"http.request.method": "PUT", "http.route": "/mdm/apple/connect"}
_UDID: Final = "00008110-001A2B3C4D5E601E"
_APPLICATION_LIST: Final = 100_000
"""Bytes of the large body."""

Work = Callable[[], object]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.micro", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="rounds of 10 ms a line (100)")
    return parser.parse_args(argv)


def measure(work: Work, rounds: int) -> dict[str, float | int]:
    """Call `work` in rounds of equal length; return microseconds a call."""
    calls = _calls_a_round(work)
    taken: list[float] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        taken.append((time.perf_counter() - begin) / calls * 1e6)
    return {
        "min_us": round(min(taken), 2),
        "median_us": round(statistics.median(taken), 2),
        "calls": calls * rounds,
    }


def _calls_a_round(work: Work) -> int:
    calls = 1
    while True:
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        if time.perf_counter() - begin >= _ROUND:
            return calls
        calls *= 2


def _idle() -> bytes:
    return xml({"Status": "Idle", "UDID": _UDID})


def _installed_applications() -> bytes:
    """An answer of at least 100 KB, as a Mac with a few hundred applications sends it."""
    applications: list[dict[str, Any]] = []
    answer = {
        "CommandUUID": "5f1c6fd4-6fba-4a6c-9d0d-3a1a1b2c3d4e",
        "InstalledApplicationList": applications,
        "Status": "Acknowledged",
        "UDID": _UDID,
    }
    while len(body := xml(answer)) < _APPLICATION_LIST:
        applications.extend(_application(len(applications) + n) for n in range(10))
    return body


def _application(number: int) -> dict[str, Any]:
    return {
        "AdHocCodeSigned": False,
        "AppStoreVendable": True,
        "BetaApp": False,
        "BundleSize": 123_456_789 + number,
        "DeviceBasedVPP": True,
        "ExternalVersionIdentifier": 840_000_000 + number,
        "HasUpdateAvailable": False,
        "Identifier": f"com.example.application{number}",
        "Installing": False,
        "IsValidated": True,
        "Name": f"Bücher & Karten {number}",
        "ShortVersion": f"1.2.{number}",
        "Version": f"10{number}",
    }


def _works() -> Mapping[str, Work]:
    """What is measured, by name: RSA-2048 and SHA-256, as devices sign."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    identity = scep.self_signed(key, scep.subject_name([[["CN", "device"]]]))
    idle, applications = _idle(), _installed_applications()
    header = base64.b64encode(wire.sign(idle, [identity])).decode()
    signed = cms.decode(header)
    return {
        "rsa_verify": _primitive(signed, identity.certificate),
        "cms_decode": lambda: cms.decode(header),
        "cms_verify": lambda: cms.verify(signed, idle, allow_sha1=False),
        "cms_decode_and_verify": lambda: cms.verify(cms.decode(header), idle, allow_sha1=False),
        "plist_idle": lambda: plist.parse(idle),
        "plist_installed_applications_100kb": lambda: plist.parse(applications),
    }


def _trace_works() -> Mapping[str, Work]:
    """What tracing costs: a poll's span and its traceparent, and the spans of a batch of events."""
    events = [
        DeviceSeen(device_id=uuid7(), seen_at=datetime.now(UTC)).received(
            Meta(event_id=uuid7(), sequence=n, time=datetime.now(UTC), source="/muster/x")
        )
        for n in range(100)
    ]

    def poll() -> None:
        with tracing.request("command_queue", "PUT /mdm/apple/connect", None, _ATTRIBUTES):
            tracing.current_traceparent()

    def batch() -> None:
        with tracing.processing("inventory", "muster.command.v1", 0, "muster-inventory", events):
            pass

    return {"trace_poll": poll, "trace_batch_of_100": batch}


def _primitive(signed: cms.Signed, certificate: x509.Certificate) -> Work:
    """The floor of every verification: one RSA operation by the library."""
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey) or signed.covered is None:
        raise TypeError("the bench signs with RSA, and with signed attributes")
    signature, covered = signed.signature, signed.covered
    scheme, algorithm = padding.PKCS1v15(), hashes.SHA256()
    return lambda: public.verify(signature, covered, scheme, algorithm)


def main() -> int:
    arguments = _arguments(sys.argv[1:])
    _tell(_works(), arguments.rounds)
    _tell(_trace_works(), arguments.rounds, tracing="off")
    for share in (0.0, 1.0):
        traces.use(SpanProcessor(), share)  # what is recorded goes nowhere
        _tell(_trace_works(), arguments.rounds, tracing=f"share {share:g}")
        traces.shut_down()
    return 0


def _tell(works: Mapping[str, Work], rounds: int, **about: str) -> None:
    for name, work in works.items():
        line = {"bench": name} | about | measure(work, rounds)
        print(json.dumps(line | {"python": platform.python_version()}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
