# SPDX-License-Identifier: GPL-2.0-only
"""An ssh server on loopback that plays another machine."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import wait_until

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
_PRIVILEGE_SEPARATION = Path("/run/sshd")

_SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
MaxStartups 50
"""
_CLIENT = """
Host far
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 10
"""


@dataclass(frozen=True, slots=True)
class FarMachine:
    """A machine called `far` by the client's configuration."""

    configuration: Path
    server: subprocess.Popen[bytes]

    def connections(self) -> list[int]:
        """Return the processes that serve a connection each, oldest first."""
        children = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children").read_text()
        return sorted(map(int, children.split()))


@contextmanager
def far_machine(folder: Path) -> Iterator[FarMachine]:
    """Serve ssh while the block runs."""
    assert SSHD is not None
    made = _make_room()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "sshd_config").write_text(_SERVER.format(port=port, folder=folder))
    (folder / "ssh_config").write_text(_CLIENT.format(port=port, folder=folder, user=getpass.getuser()))
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), "an ssh server that answers")
        yield FarMachine(folder / "ssh_config", server)
    finally:
        server.kill()
        server.wait()
        if made:
            _PRIVILEGE_SEPARATION.rmdir()


def _make_room() -> bool:
    """Create the folder that sshd needs if root starts it; returns whether it was missing."""
    if os.geteuid() != 0 or _PRIVILEGE_SEPARATION.exists():
        return False
    _PRIVILEGE_SEPARATION.mkdir()
    return True


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        return connection.recv(4) == b"SSH-"
    return False
