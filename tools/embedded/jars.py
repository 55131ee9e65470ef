"""The broker's jars: fetched once, checked against the committed SHA-256 list at every start."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from tools.embedded.errors import AlreadyRunningError, EmbeddedError
from tools.embedded.home import Home, locked
from tools.embedded.java import find_java
from tools.embedded.processes import run
from tools.embedded.progress import Step

KAFKA_VERSION = "4.4.0"
CHECKSUMS = Path(__file__).with_name("kafka-jars.sha256")
POM = Path(__file__).with_name("kafka-pom.xml")
# Two calls: resolved together, log4j's managed versions would win and give a broken mix of clients.
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
)
FETCH_SECONDS = 1_800

Fetch = Callable[[Path, Path], Awaitable[None]]


def expected(checksums: Path = CHECKSUMS) -> dict[str, str]:
    """Return the SHA-256 of each jar by file name."""
    lines = checksums.read_text("utf-8").splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: digest for digest, name in pairs}


async def class_path(home: Home, step: Step, *, checksums: Path = CHECKSUMS) -> list[Path]:
    """Return the jars, in an order that never changes, fetching what is missing.

    Sources in order: the folder $KAFKA_LIBS, Maven when it is on the PATH, jgo's resolver (pure
    Python). What was fetched stays, so that a broken download goes on where it stopped. A jar whose
    checksum differs is never used.
    """
    wanted = expected(checksums)
    folder = home.cache / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    async with _sole_fetcher(folder / "lock", step):
        step.note("checking")
        missing = await asyncio.to_thread(_missing, folder, wanted)
        if missing:
            await _fetch(home, folder, wanted, step)
    return [folder / name for name in sorted(wanted)]


@contextlib.asynccontextmanager
async def _sole_fetcher(lock: Path, step: Step) -> AsyncIterator[None]:
    """Hold the cache: several test runs of one checkout share it."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(lock))
            except AlreadyRunningError:
                step.note("another process is fetching")
                await asyncio.sleep(0.2)
                continue
            yield
            return


def _missing(folder: Path, wanted: dict[str, str]) -> list[str]:
    return [name for name, digest in wanted.items() if _digest(folder / name) != digest]


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


async def _fetch(home: Home, folder: Path, wanted: dict[str, str], step: Step) -> None:
    arriving = home.cache / "arriving"
    log = home.logs / "jars.log"
    problems = []
    for name, fetch in _sources():
        watch = asyncio.create_task(_watch(arriving, wanted, step, name))
        try:
            await fetch(arriving, log)
        except EmbeddedError as error:
            problems.append(f"{name}: {error}")
        finally:
            watch.cancel()
        problems += await asyncio.to_thread(_take_over, name, arriving, folder, wanted)
        if not await asyncio.to_thread(_missing, folder, wanted):
            shutil.rmtree(arriving, ignore_errors=True)
            return
    absent = await asyncio.to_thread(_missing, folder, wanted)
    advice = (
        f"{len(absent)} of Kafka's {len(wanted)} jars are missing, {absent[0]} for one. A second "
        "try goes on where this one stopped. Without a way to the package registries, set "
        "KAFKA_LIBS to a folder that holds the jars."
    )
    raise EmbeddedError("\n".join([advice, *problems]))


def _sources() -> list[tuple[str, Fetch]]:
    sources: list[tuple[str, Fetch]] = []
    if given := os.environ.get("KAFKA_LIBS"):
        return [("KAFKA_LIBS", _copier(Path(given)))]
    if shutil.which("mvn"):
        sources.append(("Maven", _maven))
    sources.append(("jgo", _jgo))
    return sources


def _copier(libs: Path) -> Fetch:
    def copy_all(arriving: Path) -> None:
        if not libs.is_dir():
            raise EmbeddedError(f"KAFKA_LIBS is {libs}, which is no folder.")
        arriving.mkdir(parents=True, exist_ok=True)
        for path in libs.glob("*.jar"):
            shutil.copy(path, arriving)

    async def copy(arriving: Path, _log: Path) -> None:
        await asyncio.to_thread(copy_all, arriving)

    return copy


async def _maven(arriving: Path, log: Path) -> None:
    argv = ["mvn", "-B", "-ntp", "-f", str(POM), "dependency:copy-dependencies"]
    argv += ["-DincludeScope=runtime", f"-DoutputDirectory={arriving}"]
    await run(argv, log=log, seconds=FETCH_SECONDS)


async def _jgo(arriving: Path, log: Path) -> None:
    if not (jgo := _jgo_program()):
        raise EmbeddedError("not installed; `pip install 'jgo[cli]'` into this environment")
    # jgo looks for a Java to sort jars with; finding none, it would fetch one from a vendor's site.
    java = await asyncio.to_thread(find_java)
    places = {
        "M2_REPO": str(arriving / "m2"),
        "JGO_CACHE_DIR": str(arriving / "jgo"),
        "JAVA_HOME": str(java.parent.parent),
    }
    for coordinate in COORDINATES:
        argv = [jgo, "--resolver", "python", "--class-path-only", "--links", "soft"]
        argv += ["info", "jars", coordinate]
        await run(argv, log=log, env=os.environ | places, seconds=FETCH_SECONDS)


def _jgo_program() -> str | None:
    beside = Path(sys.executable).with_name("jgo")
    return str(beside) if beside.exists() else shutil.which("jgo")


async def _watch(arriving: Path, wanted: dict[str, str], step: Step, source: str) -> None:
    def arrived() -> int:
        return len({path.name for path in arriving.rglob("*.jar")} & wanted.keys())

    while True:
        step.note(f"{source}, {await asyncio.to_thread(arrived)} of {len(wanted)} jars")
        await asyncio.sleep(0.5)


def _take_over(source: str, arriving: Path, folder: Path, wanted: dict[str, str]) -> list[str]:
    """Keep the jars whose checksum is right; return what is wrong with the others."""
    problems = []
    for path in sorted(arriving.rglob("*.jar")):
        if path.name not in wanted or path.is_symlink():
            continue
        found = _digest(path)
        if found == wanted[path.name]:
            # Copied, not moved: a resolver that goes on later looks for it where it put it.
            fresh = folder / f"{path.name}.new"
            shutil.copyfile(path, fresh)
            fresh.replace(folder / path.name)
        else:
            problems.append(
                f"{source}: {path.name} has SHA-256 {found}, but {wanted[path.name]} is expected"
            )
            path.unlink()
    return problems
