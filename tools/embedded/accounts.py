"""PostgreSQL refuses to run as root: how to start it anyway, without sudo or su."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tools.embedded.errors import EmbeddedError
from tools.embedded.processes import OURSELVES, Account

# Maps root to nobody inside a user namespace: PostgreSQL sees an ordinary user, the files see root.
UNSHARE = ("unshare", "--map-user=65534", "--map-group=65534", "--")


def for_server(program: Path, folder: Path) -> Account:
    """Return an account that may run `program` with its data in `folder`, and hand the folder over
    to it.

    A folder that already holds data keeps its owner: `postgres`, `nobody`, or root behind
    `unshare`.
    """
    if os.geteuid() != 0:
        return OURSELVES
    owner = folder.stat().st_uid
    if owner != 0:
        account = Account(uid=owner, gid=folder.stat().st_gid)
        if _reaches(account, program, folder):
            return account
        os.chown(folder, 0, 0)
        _hand_over(folder, 0, 0)
    elif not any(folder.iterdir()):
        for entry in _candidates():
            account = Account(uid=entry.pw_uid, gid=entry.pw_gid)
            if _reaches(account, program, folder):
                os.chown(folder, entry.pw_uid, entry.pw_gid)
                return account
    return _namespace(program)


def _candidates() -> list[pwd.struct_passwd]:
    entries = []
    for name in ("postgres", "nobody"):
        try:
            entries.append(pwd.getpwnam(name))
        except KeyError:
            continue
    return entries


def _reaches(account: Account, program: Path, folder: Path) -> bool:
    """Tell whether the account can execute the program and enter the folder: a checkout below
    /root it cannot.
    """
    check = ["/bin/sh", "-c", 'cd "$2" && "$1" --version', "sh", str(program), str(folder)]
    try:
        done = subprocess.run(
            check,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            check=False,
            cwd="/",
        )
    except OSError:
        return False
    return done.returncode == 0


def _hand_over(folder: Path, uid: int, gid: int) -> None:
    for path in folder.rglob("*"):
        os.chown(path, uid, gid, follow_symlinks=False)


def _namespace(program: Path) -> Account:
    if shutil.which("unshare"):
        check = [*UNSHARE, str(program), "--version"]
        if subprocess.run(check, capture_output=True, check=False, cwd="/").returncode == 0:
            return Account(prefix=UNSHARE)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, no other user can reach {program}, and this machine "
        "allows no user namespaces: run as an ordinary user, or move the checkout to a folder that "
        "every user can enter."
    )
