"""Processes of this machine as the system tells of them: who descends from whom, and who listens where."""

from __future__ import annotations

import socket
import struct
from pathlib import Path


def descendants(root: int) -> dict[int, str]:
    """The process and all that it started, by number: the command line of each."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has just ended
            continue
    found, waiting = [root], [root]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, other in parents.items() if other == parent]
        found += children
        waiting += children
    return {pid: _command(pid) for pid in found}


def listening(pids: list[int]) -> list[str]:
    """The addresses at which these processes listen."""
    sockets: dict[str, str] = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":  # listening
                sockets[words[9]] = _address(words[1].split(":")[0])
    held = {target[8:-1] for pid in pids for target in _open_files(pid) if target.startswith("socket:[")}
    return [address for inode, address in sockets.items() if inode in held]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _open_files(pid: int) -> list[str]:
    try:
        return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def _address(text: str) -> str:
    """Of the kernel's hexadecimal words, which are in the machine's byte order."""
    data = b"".join(struct.pack("=I", int(text[k : k + 8], 16)) for k in range(0, len(text), 8))
    if len(data) == 16 and data[:12] == b"\0" * 10 + b"\xff\xff":
        data = data[12:]  # IPv4 as IPv6 writes it
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)
