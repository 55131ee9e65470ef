from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.embedded.errors import AlreadyRunningError, EmbeddedError
from tools.embedded.home import Home, free_port, is_free


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_ports_are_remembered(own_home: Home) -> None:
    first = own_home.ports(["a", "b"])
    assert len(set(first.values())) == 2
    assert Home.at(own_home.root).ports(["b", "a"]) == first


def test_a_port_that_somebody_took_is_replaced(own_home: Home) -> None:
    before = own_home.ports(["a", "b"])
    with listen(before["a"]):
        after = own_home.ports(["a", "b"])
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]


def test_the_port_of_a_running_server_stays(own_home: Home) -> None:
    before = own_home.ports(["a"])
    with listen(before["a"]):
        assert own_home.ports(["a"], running=["a"]) == before


def test_two_checkouts_do_not_collide(new_home: Callable[[], Home]) -> None:
    names = ["postgres", "kafka", "kafka-controller"]
    homes = [new_home() for _ in range(5)]
    listeners = []
    chosen: list[int] = []
    for home in homes:
        ports = list(home.ports(names).values())
        listeners += [listen(port) for port in ports]
        chosen += ports
    for listener in listeners:
        listener.close()
    assert len(set(chosen)) == len(chosen)


def test_ports_stay_out_of_the_ephemeral_range() -> None:
    assert all(20_000 <= free_port() < 30_000 for _ in range(20))


def test_a_port_in_use_is_not_free() -> None:
    port = free_port()
    assert is_free(port)
    with listen(port):
        assert not is_free(port)


def test_no_free_port_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.embedded.home.is_free", lambda _port: False)
    with pytest.raises(EmbeddedError, match="no free loopback port"):
        free_port()


def test_a_password_is_made_once_and_is_ours_alone(own_home: Home) -> None:
    first = own_home.password("somebody")
    assert len(first) >= 32
    assert own_home.password("somebody") == first
    assert own_home.password("somebody-else") != first
    assert (own_home.secrets / "somebody").stat().st_mode & 0o777 == 0o600
    assert own_home.secrets.stat().st_mode & 0o777 == 0o700


def test_one_process_at_a_time(own_home: Home) -> None:
    with (
        own_home.lock(),
        pytest.raises(AlreadyRunningError, match="already runs from this checkout"),
        own_home.lock(),
    ):
        pass
    with own_home.lock():
        pass


def hold_and_die(root: Path) -> None:
    with Home.at(root).lock():
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_holds_no_lock(own_home: Home) -> None:
    spawn = multiprocessing.get_context("spawn")
    killed = spawn.Process(target=hold_and_die, args=(own_home.root,))
    killed.start()
    killed.join(30)
    assert killed.exitcode == -9
    with own_home.lock():
        pass
