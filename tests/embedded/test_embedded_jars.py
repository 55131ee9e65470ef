from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from tools.embedded import jars
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.progress import Step

GOOD = {"one.jar": b"first", "two.jar": b"second"}


@pytest.fixture
def libs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "libs"
    folder.mkdir()
    for name, content in GOOD.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv("KAFKA_LIBS", str(folder))
    return folder


@pytest.fixture
def checksums(tmp_path: Path) -> Path:
    path = tmp_path / "list.sha256"
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in GOOD.items()]
    path.write_text("\n".join(["# name and digest", *lines]))
    return path


def home_in(folder: Path) -> Home:
    return Home.at(folder / ".muster")


async def test_jars_are_fetched_once(tmp_path: Path, libs: Path, checksums: Path) -> None:
    home = home_in(tmp_path)
    found = await jars.class_path(home, Step(""), checksums=checksums)
    assert [path.read_bytes() for path in found] == [b"first", b"second"]
    (libs / "one.jar").unlink()
    assert await jars.class_path(home, Step(""), checksums=checksums) == found
    assert not (home.cache / "arriving").exists()


async def test_a_wrong_checksum_is_refused(tmp_path: Path, libs: Path, checksums: Path) -> None:
    (libs / "two.jar").write_bytes(b"something else")
    home = home_in(tmp_path)
    with pytest.raises(EmbeddedError, match=r"two\.jar has SHA-256 .* is expected"):
        await jars.class_path(home, Step(""), checksums=checksums)
    kept = [path.name for path in home.cache.rglob("*.jar")]
    assert "two.jar" not in kept


async def test_a_jar_changed_in_the_cache_is_fetched_again(
    tmp_path: Path, libs: Path, checksums: Path
) -> None:
    home = home_in(tmp_path)
    found = await jars.class_path(home, Step(""), checksums=checksums)
    found[0].write_bytes(b"tampered with")
    again = await jars.class_path(home, Step(""), checksums=checksums)
    assert again[0].read_bytes() == b"first"


async def test_a_broken_download_goes_on_where_it_stopped(
    tmp_path: Path, libs: Path, checksums: Path
) -> None:
    home = home_in(tmp_path)
    (libs / "two.jar").rename(tmp_path / "two.jar")
    with pytest.raises(EmbeddedError, match=r"1 of Kafka's 2 jars are missing, two\.jar"):
        await jars.class_path(home, Step(""), checksums=checksums)
    (libs / "one.jar").unlink()
    (tmp_path / "two.jar").rename(libs / "two.jar")
    found = await jars.class_path(home, Step(""), checksums=checksums)
    assert [path.read_bytes() for path in found] == [b"first", b"second"]


async def test_several_runs_share_one_cache(tmp_path: Path, libs: Path, checksums: Path) -> None:
    home = home_in(tmp_path)
    calls = [jars.class_path(home, Step(""), checksums=checksums) for _ in range(4)]
    found = await asyncio.gather(*calls)
    assert all(each == found[0] for each in found)


async def test_the_next_source_is_tried(
    tmp_path: Path, libs: Path, checksums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_arriving: Path, _log: Path) -> None:
        raise EmbeddedError("no way to the registry")

    real = jars._sources()
    monkeypatch.setattr(jars, "_sources", lambda: [("first", broken), *real])
    assert await jars.class_path(home_in(tmp_path), Step(""), checksums=checksums)
    monkeypatch.setattr(jars, "_sources", lambda: [("first", broken)])
    with pytest.raises(EmbeddedError, match="first: no way to the registry"):
        await jars.class_path(home_in(tmp_path / "other"), Step(""), checksums=checksums)


def test_the_committed_list_is_complete() -> None:
    listed = jars.expected()
    assert len(listed) == 45
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in listed
    assert all(len(digest) == 64 for digest in listed.values())
