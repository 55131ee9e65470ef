"""`muster up` as a newcomer meets it: the whole road, in a folder of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pyotp
import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".muster" / "cache"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


class Muster:
    """One `muster up`, and other commands beside it."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "up.log"
        self.environ = {**os.environ, "MUSTER_HOME": str(home), "COLUMNS": "200"}
        self.process: asyncio.subprocess.Process | None = None

    @asynccontextmanager
    async def up(self, *words: str) -> AsyncIterator[None]:
        with self.log.open("wb") as file:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tools.cli", "up", *words),
                cwd=ROOT,
                env=self.environ,
                stdout=file,
                stderr=file,
            )
        try:
            await self.until(lambda: "Ctrl-C stops everything" in self.said(), self.said)
            yield
        finally:
            if self.process.returncode is None:
                self.process.send_signal(signal.SIGINT)
                await asyncio.wait_for(self.process.wait(), 120)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    async def until(self, true: Callable[[], bool], why: Callable[[], str]) -> None:
        try:
            async with asyncio.timeout(180):
                while not true():
                    if self.process is None or self.process.returncode is not None:
                        pytest.fail(f"muster up ended:\n{why()}")
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pytest.fail(f"waited in vain:\n{why()}")

    async def run(self, *words: str) -> tuple[int, str]:
        """One command: its status, and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.cli", *words),
            cwd=ROOT,
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
        return process.returncode or 0, output.decode()

    async def shows(self, pattern: str, *words: str) -> str:
        """Repeat a command until its output matches; the output."""
        output = ""
        async with asyncio.timeout(180):
            while not re.search(pattern, output, re.DOTALL):
                status, output = await self.run(*words)
                assert status == 0, output
                await asyncio.sleep(0.3)
        return output


@pytest.fixture
def muster(tmp_path: Path) -> Muster:
    (tmp_path / "cache").symlink_to(CACHE)
    return Muster(tmp_path)


async def test_devices_are_enrolled_inventoried_and_judged_and_everything_is_kept(
    muster: Muster,
) -> None:
    async with muster.up("--simulate", "3"):
        judged = await muster.shows(r"(compliant.*){3}", "devices", "--state", "enrolled")
        serials = _serials(judged)
        assert len(serials) == 3

        status, output = await muster.run(
            *("command", "send", "inventory.refresh", serials[0], "--wait", "60"),
            *("--param", "section=security", "--reason", "a look"),
        )
        assert status == 0, output
        assert re.search(r"acknowledged\s+1", output)
        command_id = output.split()[0]
        shown = await muster.run("command", "show", command_id, "--answers")
        assert "SecurityInfo" in shown[1]
        assert serials[0] in (await muster.run("devices", "show", serials[0]))[1]
        assert "Baseline" in (await muster.run("policies", "list"))[1]
        assert "compliant" in (await muster.run("verdicts", "--state", "compliant"))[1]
        assert "3/3" in (await muster.run("credentials", "list"))[1]

        events = await muster.run(
            *("events", "tail", "--from-start", "--count", "3", "--topic", "device.v1"),
        )
        assert "device.enrolled" in events[1] or "certificate.issued" in events[1]
        rebuilt = await muster.run("rebuild", "inventory")
        assert re.search(r"inventory: \d+ events", rebuilt[1]), rebuilt
        assert "given up nothing" in (await muster.run("dead-letters", "list", "inventory"))[1]

        await _set_up(muster)
    assert muster.process is not None
    assert muster.process.returncode == 0
    assert "Everything is kept" in muster.said()

    async with muster.up():
        assert "/set-up/" not in muster.said()
        kept = (await muster.run("devices"))[1]
        assert _serials(kept) == serials
        await _survives_its_database(muster)


async def _survives_its_database(muster: Muster) -> None:
    """PostgreSQL dies under it: it says so, starts it again, and goes on."""
    pid_file = muster.home / "state" / "postgres" / "data" / "postmaster.pid"
    os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
    await muster.until(lambda: "PostgreSQL is back" in muster.said(), muster.said)
    assert "PostgreSQL died and is started again" in muster.said()
    await muster.shows("DEVICE ID", "devices")


def _serials(table: str) -> list[str]:
    """The second column, below its head."""
    return sorted(re.findall(r"\b[A-Z0-9]{10}\b", "\n".join(table.splitlines()[1:])))


async def _set_up(muster: Muster) -> None:
    """The printed link makes an owner, once; what was done at the terminal is in the audit, too."""
    said = muster.said()
    [api] = re.findall(r"API\s+(http://\S+)/api/v1", said)
    [link] = re.findall(r"set up\s+(http://localhost\S+)", said)
    origin = link.partition("/set-up/")[0]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar()) as session:

        async def filled_in(path: str, shown: str, **fields: str) -> str:
            [token] = set(re.findall(r'name="csrf" value="([\w-]+)"', shown))
            data = {"csrf": token, **fields}
            async with session.post(origin + path, data=data, headers={"Origin": origin}) as answer:
                assert answer.status == 200
                return await answer.text()

        async with session.get(link) as answer:
            shown = await answer.text()
        owner = {"name": "Ada", "email": "ada@example.org", "password": "a walk in the wet woods"}
        shown = await filled_in(link.removeprefix(origin), shown, **owner)
        shown = await filled_in("/second-factor/offer", shown)
        [secret] = re.findall(r"<code[^>]*>(\w+)</code>", shown)
        shown = await filled_in("/second-factor/confirm", shown, code=pyotp.TOTP(secret).now())
        assert "Ada" in shown
        async with session.get(link) as answer:
            assert answer.status == 403
        status, printed = await muster.run("token", "--audience", "console", "--minutes", "5")
        assert status == 0
        headers = {"Authorization": f"Bearer {printed.split()[0]}"}
        wanted = {"console.setup", "session.begin", "token.create", "credential.create"}
        async with asyncio.timeout(60):
            found: set[str] = set()
            while not wanted <= found:
                async with session.get(f"{api}/api/v1/console/audit", headers=headers) as answer:
                    found = {row["action"] for row in (await answer.json())["items"]}
                await asyncio.sleep(0.2)


async def test_ctrl_c_while_starting_leaves_nothing_running(muster: Muster) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.cli", "up"),
        cwd=ROOT,
        env=muster.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    data = muster.home / "state" / "postgres" / "data"
    async with asyncio.timeout(120):
        while not (data / "postmaster.pid").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    assert b"Traceback" not in output
    assert not (data / "postmaster.pid").exists()
    assert "make up" in (await muster.run("devices"))[1]
