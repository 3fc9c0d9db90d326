"""Starting, finding and stopping a sidecar process."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ._shim import BUILD_HASH, LAYOUT_VERSION, SidecarUnavailable
from .wire import ControlSocket, close_all, close_sockets

_STOP_SECONDS = 10.0
_RELEASE_SECONDS = 1.0  # longer than a sidecar takes to end after its last client
_STDERR_CHARACTERS = 2000


def find_binary() -> str:
    """Path of the `ringlane` command: `RINGLANE_BINARY`, else beside `sys.executable`, in the scripts directory, on PATH.

    Raises `SidecarUnavailable` when it is nowhere.
    """
    given = os.environ.get("RINGLANE_BINARY")
    if given:
        if os.access(given, os.X_OK):
            return given
        raise SidecarUnavailable(f"RINGLANE_BINARY is {given}, which is not a program")
    places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts")), Path(sys.prefix, "bin")]
    for place in places:
        if os.access(place / "ringlane", os.X_OK):
            return str(place / "ringlane")
    found = shutil.which("ringlane")
    if found:
        return found
    raise SidecarUnavailable(
        "the `ringlane` program is not installed beside this Python nor on PATH; "
        "install the ringlane wheel, or set RINGLANE_BINARY"
    )


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, os.PathLike)):
        text = "".join(c if c >= " " and c not in '"\\\x7f' else f"\\u{ord(c):04x}" for c in os.fspath(value))
        return f'"{text}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    raise TypeError(f"a configuration cannot hold {value!r}")


def to_toml(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """A configuration dict as TOML: scalars first, then tables and arrays of tables.

    >>> print(to_toml({"orders": {"resting_orders_max": 10, "accounts": [{"first": 1, "last": 2}]}}), end="")
    [orders]
    resting_orders_max = 10
    [[orders.accounts]]
    first = 1
    last = 2
    """
    scalars, tables = "", ""
    for key, value in config.items():
        name = ".".join((*path, key))
        if isinstance(value, Mapping):
            tables += f"[{name}]\n" + to_toml(value, (*path, key))
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            tables += "".join(f"[[{name}]]\n" + to_toml(item, (*path, key)) for item in value)
        else:
            scalars += f"{key} = {_toml_value(value)}\n"
    return scalars + tables


class Sidecar:
    """A sidecar process of one's own, which ends with its last client.

    `socket` is the path to listen at (default: in a temporary directory), `journal` the directory of the recording
    (default: a temporary one, removed at the end), `config` a TOML file's path or a dict of the same shape. Use it as a
    context manager, or call `stop`.

    Raises `SidecarUnavailable`, with the program's own words, when it does not come up within `timeout` seconds.

    >>> import ringlane
    >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
    ...     client.symbols["AAPL"]
    1
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        journal: str | os.PathLike[str] | None = None,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        timeout: float = 20.0,
    ) -> None:
        binary = find_binary()
        self._directory = Path(tempfile.mkdtemp(prefix="ringlane-"))
        self._keeper: ControlSocket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        self.address: str = os.fspath(socket) if socket is not None else str(self._directory / "ringlane.sock")
        self.journal: str = os.fspath(journal) if journal is not None else str(self._directory / "journal")
        _over.discard(self.address)
        command = [binary, "serve", "--embedded", "--socket", self.address, "--journal", self.journal]
        if isinstance(config, Mapping):
            (self._directory / "ringlane.toml").write_text(to_toml(config))
            config = self._directory / "ringlane.toml"
        if config is not None:
            command += ["--config", os.fspath(config)]
        # Nobody writes into this pipe: its reader learns of the sidecar's end, however that comes about.
        reader, writer = os.pipe()
        try:
            with open(self._directory / "stderr", "wb") as stderr:
                # Its own session: Ctrl-C in the terminal is for the Python program, which then decides.
                self._process = subprocess.Popen(
                    command, stdin=writer, stdout=stderr, stderr=stderr, start_new_session=True
                )
            os.close(writer)
            writer = -1
            self._life = _Life(self._process, self._directory, reader, self.address)
            self._finalizer = weakref.finalize(self, self._life.release, 0.0)
            self._finalizer.atexit = False  # `_at_exit` comes instead
            self._keeper = self._await_answer(time.monotonic() + timeout)
            self._life.keeper = self._keeper
        except BaseException:
            if writer >= 0:
                os.close(writer)
                os.close(reader)
                shutil.rmtree(self._directory, ignore_errors=True)
            else:
                self._life.stop()
            raise

    def _await_answer(self, deadline: float) -> ControlSocket:
        assert self._process is not None
        while True:
            # The end of this connection would be the end of the sidecar: it is kept until `stop`.
            with contextlib.suppress(SidecarUnavailable):
                keeper = ControlSocket(self.address, max(0.1, deadline - time.monotonic()))
                reply, descriptors = keeper.request(
                    op="hello", layout_version=LAYOUT_VERSION, build=BUILD_HASH, name="keeper"
                )
                close_all(descriptors)
                if Path(self.address).parent == self._directory:
                    self._life.board = reply["board"]  # nobody else's, because the address is nobody else's
                return keeper
            code = self._process.poll()
            if code is not None:
                raise SidecarUnavailable(f"the sidecar ended at once with code {code}; it said: {self.stderr()}")
            if time.monotonic() > deadline:
                raise SidecarUnavailable(f"the sidecar did not answer in time; it said: {self.stderr()}")
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """Process id of the sidecar."""
        assert self._process is not None
        return self._process.pid

    def stderr(self) -> str:
        """The last words of the sidecar's log."""
        try:
            words = (self._directory / "stderr").read_text(errors="replace").strip()
        except OSError:
            words = ""
        return words[-_STDERR_CHARACTERS:] or "(nothing)"

    def stop(self) -> None:
        """Ends the sidecar in order (SIGTERM), whoever uses it, and removes the temporary directory. Idempotent."""
        self._life.stop()

    def release(self) -> None:
        """Lets the sidecar end with its last client, and then removes the temporary directory. Idempotent.

        Waits up to a second for that; if others use the sidecar, it goes on without this process.
        """
        self._life.release(_RELEASE_SECONDS)

    def kill(self) -> None:
        """Kills the sidecar (SIGKILL), as a crash would. The journal stays until `stop`."""
        if self._process is not None and self._owner_pid == os.getpid():
            _over.add(self.address)
            self._process.kill()
            self._process.wait()

    def _forget_after_fork(self) -> None:
        if self._process is not None:
            self._process.returncode = 0  # the child has nobody to wait for

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ringlane.Sidecar pid {self.pid} at {self.address}>"


class _Life:
    """What is left to do for a sidecar that this process started; it outlives the `Sidecar`."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, reader: int, address: str) -> None:
        self.address = address
        self.keeper: ControlSocket | None = None
        self.board = ""
        self._process = process
        self._directory = directory
        self._reader = reader
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        self._reaper: threading.Thread | None = None
        _lives.add(self)

    def stop(self) -> None:
        """Ends the process, at last by force, and clears up."""
        if self._owner_pid != os.getpid():
            return
        self._close_keeper()
        _over.add(self.address)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        if not self._ended(_STOP_SECONDS):
            self._process.kill()
            self._ended(None)

    def release(self, seconds: float) -> None:
        """Waits for the process to end by itself; after some time in a thread of its own."""
        if self._owner_pid != os.getpid():
            return
        self._close_keeper()
        if not self._ended(seconds) and self._reaper is None:
            self._reaper = threading.Thread(target=self._ended, args=(None,), name="ringlane-reaper", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads: the interpreter ends, and `leave` comes
                self._reaper.start()

    def leave(self) -> None:
        """At the end of this process: if others still use the sidecar, a shell stays to clear up after it."""
        if self._owner_pid != os.getpid() or self._reader < 0:
            return
        self._close_keeper()
        if not self._ended(_RELEASE_SECONDS):
            script = 'cat > "$0/ended"; rm -rf "$0"'
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                subprocess.Popen(
                    ["/bin/sh", "-c", script, str(self._directory)],
                    stdin=self._reader,
                    stdout=nowhere,
                    stderr=nowhere,
                    start_new_session=True,
                    cwd="/",
                )
            self._process.returncode = 0  # not waited for: it is somebody else's child from now on

    def _close_keeper(self) -> None:
        if self.keeper is not None:
            self.keeper.close()

    def _ended(self, seconds: float | None) -> bool:
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        _over.add(self.address)
        with self._lock:
            if self._reader >= 0:
                os.close(self._reader)
                self._reader = -1
                _lives.discard(self)
                shutil.rmtree(self._directory, ignore_errors=True)
                if code != 0 and self.board:
                    Path("/dev/shm", self.board).unlink(missing_ok=True)
        return True


_lives: set[_Life] = set()
_over: set[str] = set()  # addresses of sidecars that this process started and that have ended


def is_over(address: str) -> bool:
    """Whether a sidecar that this process started served there and has ended: nobody starts it anew."""
    return address in _over or any(
        life.address == address and life._process.poll() is not None for life in list(_lives)
    )


def _at_exit() -> None:
    mine = [life for life in list(_lives) if life._owner_pid == os.getpid()]
    if mine:
        close_sockets()
    for life in mine:
        life.leave()


atexit.register(_at_exit)
