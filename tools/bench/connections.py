"""Which process holds which connection: so a PostgreSQL backend's CPU is counted to its client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

_SOCKET = "socket:["
_LOCAL, _INODE = 1, 9


def owners(ports: Mapping[int, int], pids: Mapping[str, Iterable[int]]) -> dict[int, str]:
    """For each backend (by process id, with its client's port): the name of the client's processes.

    Backends of clients that are none of `pids` are left out.
    """
    by_inode = {
        inode: name for name, family in pids.items() for pid in family for inode in _sockets(pid)
    }
    by_port = {port: by_inode[inode] for port, inode in _local_ports().items() if inode in by_inode}
    return {backend: by_port[port] for backend, port in ports.items() if port in by_port}


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            link = str(entry.readlink())
            if link.startswith(_SOCKET):
                found.add(link[len(_SOCKET) : -1])
    except OSError:
        pass  # the process or the file has gone meanwhile
    return found


def _local_ports() -> dict[int, str]:
    """Local port → inode of every TCP socket; a listening one has its accepted ones beside it."""
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[_INODE] != "0":  # nobody's any more, but its port may be somebody's again
                found[int(fields[_LOCAL].rpartition(":")[2], 16)] = fields[_INODE]
    return found
