"""Equal seeds give equal fleets, and devices look like Apple's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.simulator import behaviour, state
from tools.simulator.catalogue import KINDS, Kind
from tools.simulator.device import SimulatedDevice
from tools.simulator.keys import KeyStore
from tools.simulator.traits import draw


def test_equal_seed_and_index_are_the_same_device() -> None:
    for index in range(50):
        first, second = draw("a seed", index), draw("a seed", index)
        assert first == second
        assert state.fresh(first) == state.fresh(second)
        mix = behaviour.EVERYDAY
        assert behaviour.choose(first, mix) == behaviour.choose(second, mix)


def test_it_is_the_same_in_another_process() -> None:
    program = "from tools.simulator.traits import draw; print(draw('a seed', 7))"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=root,
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)},
        text=True,
        timeout=30,
    )
    assert done.stdout.strip() == str(draw("a seed", 7))


def test_devices_of_a_fleet_differ() -> None:
    fleet = [draw("a seed", index) for index in range(500)]
    for attribute in ("udid", "serial", "wifi_mac"):
        assert len({getattr(traits, attribute) for traits in fleet}) == 500
    assert {traits.kind for traits in fleet} == set(KINDS)
    assert {traits.udid for traits in fleet}.isdisjoint(
        draw("another seed", index).udid for index in range(500)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_identifiers_look_like_apple_s(kind: Kind) -> None:
    for index in range(20):
        traits = draw("looks", index, kind=kind)
        form = r"[0-9A-F]{8}-[0-9A-F]{16}"
        if kind == "mac":
            form = r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"
        assert re.fullmatch(form, traits.udid)
        assert re.fullmatch(r"[0-9A-Z]{10}", traits.serial)
        if traits.imei:
            digits = [int(digit) for digit in traits.imei.replace(" ", "")]
            doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
            assert len(digits) == 15
            assert (sum(digits[::2]) + sum(doubled)) % 10 == 0


def test_state_differs_after_an_erasure() -> None:
    traits = draw("a seed", 3)
    lives = [state.fresh(traits, life) for life in range(5)]
    assert len({tuple(app.identifier for app in one.apps) for one in lives}) > 1


def test_misbehaviour_is_spread() -> None:
    chosen = {behaviour.choose(draw("s", index), {"misbehaving": 1}).name for index in range(200)}
    assert chosen == {each.name for each in behaviour.MISBEHAVING}


async def test_keys_are_kept_on_disk(tmp_path: Path) -> None:
    keys, again = KeyStore(tmp_path / "keys"), KeyStore(tmp_path / "keys")
    first = (await keys.get(0, 1)).private_numbers()
    assert (await again.get(0, 1)).private_numbers() == first
    assert (await again.get(0, 2)).private_numbers() != first
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
    keys.close()
    again.close()


async def test_shared_keys_serve_many(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path, shared=2)
    numbers = {(await keys.get(index, 1)).private_numbers().p for index in range(6)}
    assert len(numbers) == 2
    keys.close()


def test_unmanaged_device_says_so() -> None:
    with pytest.raises(RuntimeError, match="not enrolled"):
        _ = SimulatedDevice("s", 0).identity
