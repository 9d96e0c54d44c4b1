"""Parts of the machine that are machines of their own, as far as a test needs them: a network that can be cut, a disk that can fill up."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from watching import wait_for


def _ip(*command: str) -> None:
    done = subprocess.run(["ip", *command], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(command)}: {done.stderr}"


class Network:
    """Hosts, each in a network namespace with a cable of its own to this machine, whose address to them is `address`."""

    def __init__(self):
        if os.geteuid() != 0:
            pytest.skip("only root can make network namespaces")
        self.id = f"{random.getrandbits(32):08x}"
        self.prefix = f"10.{random.randrange(100, 250)}.{random.randrange(250)}"
        self.address = f"{self.prefix}.254"
        self.hosts: list[str] = []
        _ip("address", "add", f"{self.address}/32", "dev", "lo")

    def host(self) -> str:
        """The name of one more."""
        number = len(self.hosts)
        name, cable = f"gl{self.id}-{number}", f"gl{self.id}-{number}"
        gateway, own = (f"{self.prefix}.{4 * number + end}" for end in (1, 2))
        _ip("netns", "add", name)
        self.hosts.append(name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("address", "add", f"{gateway}/30", "dev", cable)
        _ip("link", "set", cable, "up")
        for command in (
            ("address", "add", f"{own}/30", "dev", "eth0"),
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "up"),
            ("route", "add", "default", "via", gateway),
        ):
            _ip("-n", name, *command)
        return name

    def within(self, host: str) -> tuple[str, ...]:
        """What goes before a command that is to run there."""
        return ("ip", "netns", "exec", host)

    def cut(self, host: str) -> None:
        _ip("link", "set", host, "down")

    def heal(self, host: str) -> None:
        _ip("link", "set", host, "up")

    def end(self) -> None:
        for host in self.hosts:
            subprocess.run(["ip", "link", "delete", host], capture_output=True)
            subprocess.run(["ip", "netns", "delete", host], capture_output=True)
        subprocess.run(["ip", "address", "delete", f"{self.address}/32", "dev", "lo"], capture_output=True)


class Disk:
    """A small disk at a folder, for those processes that run within."""

    def __init__(self, folder: Path, mebibytes: int):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        mount = f'mount -t tmpfs -o size={mebibytes}m none "{folder}" && exec sleep infinity'
        self.keeper = subprocess.Popen(["unshare", "--mount", *user, "sh", "-c", mount], stdin=subprocess.DEVNULL)
        self.enter = ("nsenter", "-t", str(self.keeper.pid), "--mount", *(("--user", "--preserve-credentials") if user else ()))

        def is_there():
            assert self.keeper.poll() is None, "a disk of a test's own can't be mounted"
            return str(folder) in Path(f"/proc/{self.keeper.pid}/mounts").read_text()

        wait_for(is_there)

    def fill(self) -> None:
        """Takes all the room that is left."""
        subprocess.run([*self.enter, "sh", "-c", f'cat /dev/zero > "{self.folder}/ballast"'], stderr=subprocess.DEVNULL)

    def free(self) -> None:
        subprocess.run([*self.enter, "rm", f"{self.folder}/ballast"], check=True)

    def end(self) -> None:
        self.keeper.kill()
        self.keeper.wait()
