"""The client for addresses that others supply, against servers and names that mean harm."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.runtime import metrics
from shared.runtime.dialling import Dialling
from shared.runtime.outbound import Limits, Outbound, OutboundFailed, opened
from shared.runtime.settings import Settings
from tools.cli import local_tls
from tools.cli.local_tls import ServerTls

Behave = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
SECRET = "s3cr3t-in-the-address"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
ENDLESS = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


class Names(AbstractResolver):
    """DNS that answers what it is told to, one address after the other."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = itertools.cycle(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # All families are asked for.
        address = next(self._addresses)
        of = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=of, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ServerTls:
    return local_tls.ensure(tmp_path_factory.mktemp("tls"), "idp.example")


@pytest.fixture
def settings(tls: ServerTls) -> Settings:
    """The company's own network is where the test's servers are."""
    return Settings(outbound_networks=[ip_network("127.0.0.0/8")], outbound_ca_file=tls.authority)


@asynccontextmanager
async def _server(tls: ServerTls | None, behave: Behave) -> AsyncIterator[int]:
    """Reads one request's head at a time, and answers as `behave` does; its port."""
    context = None
    if tls is not None:
        context = SSLContext(PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.cert, tls.key)
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await behave(await reader.readuntil(b"\r\n\r\n"), writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _saying(*parts: bytes) -> Behave:
    async def behave(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.writelines(parts)
        await writer.drain()

    return behave


async def _forever(writer: asyncio.StreamWriter, piece: bytes, pause: float) -> None:
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


@asynccontextmanager
async def _client(settings: Settings, *addresses: str) -> AsyncIterator[Outbound]:
    async with opened(settings, resolver=Names(*(addresses or ("127.0.0.1",)))) as outbound:
        yield outbound


async def _refused(outbound: Outbound, url: str, **more: Any) -> OutboundFailed:
    with pytest.raises(OutboundFailed) as failed:
        await outbound.request("GET", url, **more)
    assert SECRET not in str(failed.value)
    assert "127.0.0.1" not in str(failed.value)
    return failed.value


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.1", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1"),
        *("192.168.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
        *("::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a00:1::1", "2001:0:a00:1::1"),
        *("fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1"),
        *("100::1", "5f00::1"),
    ],
)
def test_addresses_that_are_not_public_are_not_dialled(address: str) -> None:
    assert not Dialling().may(ip_address(address))


def test_the_address_of_everything_is_not_dialled() -> None:
    assert not Dialling().may(ip_address(0))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_dialled(address: str) -> None:
    assert Dialling().may(ip_address(address))


def test_networks_that_a_setting_names_are_dialled_and_no_others() -> None:
    dialling = Dialling([ip_network("10.0.0.0/24"), ip_network("fd00::/64")])
    allowed = ("10.0.0.7", "fd00::7", "::ffff:10.0.0.7", "1.1.1.1")
    assert all(dialling.may(ip_address(each)) for each in allowed)
    assert not any(dialling.may(ip_address(each)) for each in ("10.0.1.7", "fd00:1::7", "::1"))


async def test_a_good_server_is_heard(tls: ServerTls, settings: Settings) -> None:
    before = metrics.OUTBOUND_REQUESTS.labels("answered")._value.get()
    async with _server(tls, _saying(HELLO)) as port, _client(settings) as outbound:
        reply = await outbound.request("GET", f"https://idp.example:{port}/")
    assert (reply.status, reply.body) == (200, b"hello")
    assert metrics.OUTBOUND_REQUESTS.labels("answered")._value.get() == before + 1


@pytest.mark.parametrize(
    "url",
    [
        *("http://idp.example/", "ftp://idp.example/", "file:///etc/passwd", "//idp.example/", ""),
        *(f"https://ada:{SECRET}@idp.example/", f"https://idp.example/#{SECRET}", "https:///x"),
        *("https://idp.example:99999/", "https://idp.example/a\r\nX: y", "http://localhost:1/"),
    ],
)
async def test_addresses_of_another_kind_are_refused(settings: Settings, url: str) -> None:
    async with _client(settings) as outbound:
        assert (await _refused(outbound, url)).why == "url_refused"


async def test_names_that_answer_with_private_addresses_get_no_connection() -> None:
    """Nor does an address in the URL, in any of its spellings."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for address in ("127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"):
            async with _client(Settings(), address) as outbound:
                url = f"https://idp.example:{port}/{SECRET}"
                assert (await _refused(outbound, url)).why == "address_refused"
        async with opened(Settings()) as outbound:
            for host in ("localhost", "[::ffff:7f00:1]", "2130706433", "0x7f.1", "127.1", "0"):
                why = (await _refused(outbound, f"https://{host}:{port}/{SECRET}")).why
                assert why in {"url_refused", "address_refused"}, host
            with pytest.raises(OutboundFailed, match="does not call"):
                await outbound.request("GET", f"https://127.0.0.1:{port}/")
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()


async def test_a_name_that_changes_its_mind_is_judged_at_each_dial(
    tls: ServerTls, settings: Settings
) -> None:
    """It answered well when it was asked first, and privately when it counts (DNS rebinding)."""
    closing = HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with (
        _server(tls, _saying(closing)) as port,
        _client(settings, "127.0.0.1", "10.0.0.1") as outbound,
    ):
        url = f"https://idp.example:{port}/"
        assert (await outbound.request("GET", url)).status == 200
        assert (await _refused(outbound, url)).why == "address_refused"


async def test_redirects_are_shown_and_not_followed(tls: ServerTls, settings: Settings) -> None:
    async def never(_head: bytes, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError

    async with _server(None, never) as private:
        head = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{private}/\r\n"
        behave = _saying(head.encode() + b"Content-Length: 0\r\n\r\n")
        async with _server(tls, behave) as port, _client(settings) as outbound:
            reply = await outbound.request("POST", f"https://idp.example:{port}/", data=b"{}")
    assert reply.status == 307


async def test_cookies_are_not_kept_and_proxies_of_the_environment_not_used(
    tls: ServerTls, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    heads: list[bytes] = []

    async def behave(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        writer.write(HELLO.replace(b"OK\r\n", b"OK\r\nSet-Cookie: a=b; Secure\r\n"))

    async with _server(tls, behave) as port, _client(settings) as outbound:
        for _ in range(2):
            await outbound.request("GET", f"https://idp.example:{port}/")
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


async def test_who_cannot_prove_their_name_is_refused(tls: ServerTls, settings: Settings) -> None:
    async with _server(tls, _saying(HELLO)) as port:
        async with _client(settings) as outbound:
            assert (await _refused(outbound, f"https://other.example:{port}/")).why == "tls_failed"
        untrusting = settings.model_copy(update={"outbound_ca_file": None})
        async with _client(untrusting) as outbound:
            assert (await _refused(outbound, f"https://idp.example:{port}/")).why == "tls_failed"


async def test_plain_http_is_spoken_to_this_machine_alone_and_by_setting_alone() -> None:
    async with _server(None, _saying(HELLO)) as port:
        async with opened(Settings(outbound_loopback=True)) as outbound:
            for host in ("127.0.0.1", "localhost"):
                reply = await outbound.request("GET", f"http://{host}:{port}/")
                assert reply.body == b"hello"
            assert (await _refused(outbound, "http://idp.example/")).why == "url_refused"
            assert (await _refused(outbound, "https://10.0.0.1/")).why == "address_refused"
        async with opened(Settings()) as outbound:
            assert (await _refused(outbound, f"http://localhost:{port}/")).why == "url_refused"


SLOW = Limits(connect=0.3, total=0.3)


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nX: ", ENDLESS])
async def test_who_trickles_is_left(tls: ServerTls, settings: Settings, begun: bytes) -> None:
    async def behave(_head: bytes, writer: asyncio.StreamWriter) -> None:
        if begun:
            writer.write(begun)
            await _forever(writer, b"x", 0.01)
        await asyncio.Event().wait()

    async with _server(tls, behave) as port, _client(settings) as outbound:
        url = f"https://idp.example:{port}/{SECRET}"
        assert (await _refused(outbound, url, limits=SLOW)).why == "slow"


async def test_who_takes_the_connection_and_is_silent_is_left(settings: Settings) -> None:
    async def behave(_head: bytes, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with _server(None, behave) as port, _client(settings) as outbound:
        # Without TLS: its side of the handshake never comes.
        url = f"https://idp.example:{port}/"
        assert (await _refused(outbound, url, limits=SLOW)).why == "slow"


async def test_a_body_without_end_is_not_read_on(tls: ServerTls, settings: Settings) -> None:
    sent = 0

    async def behave(_head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(ENDLESS)
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()
            sent += 10_000

    async with _server(tls, behave) as port, _client(settings) as outbound:
        url = f"https://idp.example:{port}/"
        failed = await _refused(outbound, url, limits=Limits(size=50_000))
    assert failed.why == "too_large"
    assert sent < 20_000_000


@pytest.mark.parametrize("named", ["gzip", "GZIP"])
async def test_a_body_that_unpacks_without_end_is_not_unpacked(
    tls: ServerTls, settings: Settings, named: str
) -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {named}\r\nContent-Length: {len(bomb)}\r\n\r\n"
    async with _server(tls, _saying(head.encode(), bomb)) as port, _client(settings) as outbound:
        assert (await _refused(outbound, f"https://idp.example:{port}/")).why == "too_large"


async def test_a_packed_body_is_unpacked_when_it_is_whole_and_small(
    tls: ServerTls, settings: Settings
) -> None:
    packed = gzip.compress(b"hello")
    cut = packed[:-6]
    for body, right in ((packed, True), (cut, False), (b"no gzip", False)):
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        behave = _saying(head.encode(), body)
        async with _server(tls, behave) as port, _client(settings) as outbound:
            url = f"https://idp.example:{port}/"
            if right:
                assert (await outbound.request("GET", url)).body == b"hello"
            else:
                assert (await _refused(outbound, url)).why == "broken"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_nonsense_is_no_answer(tls: ServerTls, settings: Settings, answer: bytes) -> None:
    async with _server(tls, _saying(answer)) as port, _client(settings) as outbound:
        failed = await _refused(outbound, f"https://idp.example:{port}/", limits=Limits(total=3))
    assert failed.why == "broken"


async def test_who_hangs_up_has_not_answered(tls: ServerTls, settings: Settings) -> None:
    async def behave(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO[:-2])
        writer.close()

    async with _server(tls, behave) as port, _client(settings) as outbound:
        assert (await _refused(outbound, f"https://idp.example:{port}/")).why == "broken"


async def test_nobody_there_is_said_so(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with _client(settings) as outbound:
        assert (await _refused(outbound, f"https://idp.example:{port}/")).why == "unreachable"


async def test_the_setting_reads_networks(tmp_path: Path) -> None:
    loaded = Settings.load({"MUSTER_OUTBOUND_NETWORKS": '["10.1.0.0/16", "fd00::/8"]'}, "console")
    assert [str(each) for each in loaded.outbound_networks] == ["10.1.0.0/16", "fd00::/8"]
    assert loaded.outbound_loopback is False
