"""A machine of its own for a test: a real systemd as PID 1 of fresh namespaces over a throw-away layer on `/`.

It boots in about a second, needs root, systemd and dbus, and changes nothing outside. Resource limits by cgroup are only
enforced where the host leaves their controllers to cgroup v2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

BOOT = Path(__file__).parents[1] / "systemd" / "boot.sh"
BOOT_SECONDS_MAX = 30.0


def missing() -> str | None:
    """What this machine lacks to boot another one in it; None when nothing."""
    if os.geteuid() != 0:
        return "root"
    tools = ["unshare", "nsenter", "systemctl", "dbus-daemon", "dpkg"]
    lacking = [tool for tool in tools if shutil.which(tool) is None]
    if lacking:
        return " and ".join(lacking)
    if not Path("/lib/systemd/systemd").exists():
        return "systemd"
    if _cgroup_root() is None:
        return "a writable cgroup v2"
    probe = subprocess.run(
        ["unshare", "-fpmiuCn", "--mount-proc", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs probe /mnt"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    return None if probe.returncode == 0 else f"namespaces ({probe.stderr.strip()})"


def _cgroup_root() -> Path | None:
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (root / "cgroup.procs").exists() and os.access(root, os.W_OK):
            return root
    return None


class Machine:
    """A booted machine; `files` are copied to its `/srv` before it starts. Use it as a context manager."""

    def __init__(self, files: Path) -> None:
        self.files = files

    def __enter__(self) -> Machine:
        root = _cgroup_root()
        assert root is not None
        self.cgroup = root / f"ringlane-test-{os.getpid()}"
        self.cgroup.mkdir()
        self.console = tempfile.TemporaryFile()
        joined = 'echo $$ >"$1/cgroup.procs" && exec unshare -fpmiuCn --mount-proc --kill-child=KILL sh "$2" "$3"'
        self.process = subprocess.Popen(
            ["sh", "-c", joined, "boot", str(self.cgroup), str(BOOT), str(self.files)],
            stdin=subprocess.DEVNULL,
            stdout=self.console,
            stderr=self.console,
        )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS_MAX
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.init = children.read_text().split()[0]
            except (OSError, IndexError):
                time.sleep(0.02)
                continue
            if self.run("systemctl", "-q", "is-active", "multi-user.target", check=False).returncode == 0:
                return
            time.sleep(0.05)
        self.console.seek(0)
        raise AssertionError(f"systemd did not come up: {self.console.read().decode(errors='replace')[-2000:]}")

    def command(self, *command: str, user: str | None = None) -> list[str]:
        """The command line that runs `command` in the machine, as `user` with all of his groups."""
        inside = ["nsenter", "-t", self.init, "-m", "-p", "-i", "-u", "-n", "-C", "-r", "-w", "--"]
        return [
            *inside,
            *(["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []),
            *command,
        ]

    def run(
        self, *command: str, user: str | None = None, check: bool = True, seconds: float = 30
    ) -> subprocess.CompletedProcess:
        """Runs a command in the machine and waits for it."""
        done = subprocess.run(
            self.command(*command, user=user), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def start(self, *command: str, user: str | None = None) -> subprocess.Popen:
        """Starts a command in the machine; its output can be read as it comes."""
        return subprocess.Popen(
            self.command(*command, user=user),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def journal(self, unit: str) -> str:
        """What a unit logged."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def until(self, condition, what: str, seconds: float = 20.0) -> float:
        """Waits for a condition; gives how long it took, seconds."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < seconds, f"{what} did not happen within {seconds} s"
            time.sleep(0.02)
        return time.monotonic() - start

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for directory, _, _ in os.walk(self.cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            if not self.cgroup.exists():
                break
            time.sleep(0.05)
        self.console.close()
