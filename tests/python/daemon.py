"""Runs the real `ringlane` daemon for tests, and asks it what an operator would ask."""

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from plain_client import PlainClient

BINARY = os.environ.get("RINGLANE_BINARY") or str(Path(__file__).parents[2] / "target/release/ringlane")
CONFIG = "[journal]\nsegment_bytes = 1048576\nprefault_bytes = 65536\n[orders]\nresting_orders_max = 65536\n"


def freeze(pid: int) -> None:
    """Stops a process and waits until each of its threads stands: a signal takes its time, and they work until it comes."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    until(lambda: all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks.iterdir()))


class Daemon:
    """A sidecar in `directory`; with `journal`, it records to `directory/journal`; `limit` bounds its descriptors.

    `config` is added to its configuration; `before` runs in its process before it is one.
    """

    def __init__(
        self,
        directory: Path,
        *options: str,
        journal: bool = True,
        socket: str = "socket",
        limit: int = 0,
        config: str = "",
        before: Callable[[], object] | None = None,
    ) -> None:
        self.directory = directory
        self.address = str(directory / socket)
        self.journal = str(directory / "journal")
        self.config = directory / "ringlane.toml"
        self.config.write_text(CONFIG + config)
        self.log = directory / "log"
        command = [BINARY, "serve", "--config", str(directory / "ringlane.toml"), "--socket", self.address, *options]
        command += ["--journal", self.journal] if journal else []
        self.stderr = self.log.open("ab")
        bound = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))) if limit else before
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=self.stderr,
            env={**os.environ, "RINGLANE_LOG": "info"},
            preexec_fn=bound,
        )

    def ready(self, seconds: float = 20.0) -> "Daemon":
        """Waits until it accepts a connection. An embedded one keeps its first client."""
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the sidecar ended with {self.process.returncode}: {self.words()}")
            try:
                self.status()
                PlainClient(self.address, "probe").close()
                return self
            except (OSError, AssertionError):
                assert time.monotonic() < deadline, f"the sidecar does not answer: {self.words()}"
                time.sleep(0.002)

    def words(self) -> str:
        """What it logged."""
        return self.log.read_text(errors="replace")

    def status_process(self) -> subprocess.CompletedProcess:
        """`ringlane status --json`."""
        return subprocess.run([BINARY, "status", "--address", self.address, "--json"], capture_output=True, text=True)

    def status(self) -> dict:
        """What the board says."""
        done = self.status_process()
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)

    def replay(self) -> dict:
        """What `ringlane replay` makes of its journal."""
        done = subprocess.run([BINARY, "replay", self.journal, "--json"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def fds(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def fds_settled(self, seconds: float = 0.5) -> int:
        """How many descriptors it has open when that has not changed for so long: behind a start the journal's next segment
        is still being made, and the connection that asked whether it is ready is still being ended."""
        fds, since = self.fds(), time.monotonic()
        while time.monotonic() - since < seconds:
            time.sleep(0.01)
            if self.fds() != fds:
                fds, since = self.fds(), time.monotonic()
        return fds

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reload(self, config: str) -> str:
        """Puts another configuration in place and sends SIGHUP; gives what was logged about it."""
        self.config.write_text(CONFIG + config)
        before = len(self.words())
        self.process.send_signal(signal.SIGHUP)
        until(lambda: "configuration" in self.words()[before:], what="the reload")
        return self.words()[before:]

    def rss_bytes(self) -> int:
        """Memory that it has in use."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """SIGKILL: the socket, the board and the journal stay behind."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.stderr.close()


def new_order(
    account: int, client_order_id: int, side: int, quantity: int, price: int = 1_000_000, **more: int
) -> dict:
    """A good-till-cancelled limit order in symbol 1, as the fields of an OrderRequest."""
    order = {"op": 1, "side": side, "order_type": 1, "time_in_force": 1, "symbol": 1, "account": account}
    return {**order, "client_order_id": client_order_id, "price": price, "quantity": quantity, **more}


def until(condition, seconds: float = 5.0, what: str = "it") -> float:
    """Waits for a condition; gives how long it took, seconds."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"{what} did not happen within {seconds} s"
        time.sleep(0.001)
    return time.monotonic() - start
