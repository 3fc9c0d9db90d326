"""Coming back to a sidecar that was started anew: who notices its end, connects again, and lets the lanes go on."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from . import _shim
from .jobs import JobLane
from .sidecar import is_over
from .wire import ControlSocket, close_all

if TYPE_CHECKING:
    from .client import Client
    from .lane import Lane

_FIRST_PAUSE_SECONDS = 0.002
_LONGEST_PAUSE_SECONDS = 0.1
_RESERVATION_PAUSE_SECONDS = 0.002

# What is worth another try: the sidecar is not there yet, is gone again, or says that it is on its way out.
_TRY_AGAIN = (_shim.SidecarUnavailable, _shim.SidecarLost, TimeoutError, OSError)


class _Bell:
    """Wakes the watching thread."""

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.is_heard = False
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def ring(self) -> None:
        """Wakes the thread; without one, it is the end."""
        if self._pid != os.getpid():
            return
        if not self.is_heard:
            return self.close()
        with self._lock:
            if self.number >= 0:
                os.eventfd_write(self.number, 1)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self.number >= 0:
                os.close(self.number)
            self.number = -1


class Reattacher:
    """Makes a client's connection anew when the sidecar is gone, in a thread of its own, for at most `patience` seconds.

    Meanwhile lanes take requests as far as they have slots, and whoever waits goes on waiting. A lane goes on in fresh
    regions at its old addresses: what was journaled is there with its true results, what was not is submitted again, once.
    """

    def __init__(self, client: Client, patience: float) -> None:
        self.patience = patience
        self._client = weakref.ref(client)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._over = patience <= 0
        self._bell = _Bell()
        weakref.finalize(client, self._bell.ring).atexit = False

    def start(self) -> None:
        """Begins to watch the connection. Idempotent."""
        with self._changed:
            if self._thread is None and not self._over:
                self._thread = threading.Thread(target=self._run, name="ringlane-reattach", daemon=True)
                self._bell.is_heard = True
                with contextlib.suppress(RuntimeError):  # the interpreter ends
                    self._thread.start()

    def stop(self) -> None:
        """The client is closed: nothing is made anew any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._bell.ring()

    def wait(self, lost: ControlSocket) -> bool:
        """Waits until the client has another connection than `lost`. False: it will not."""
        client = self._client()
        if client is None or self._pid != os.getpid():
            return False
        self.start()
        with self._changed:
            self._changed.wait_for(lambda: self._over or client._control is not lost, self.patience)
            return client._control is not lost

    def _run(self) -> None:
        while True:
            client = self._client()
            if client is None or self._over:
                break
            control = client._control
            poller = select.poll()
            poller.register(self._bell.number, select.POLLIN)
            with contextlib.suppress(ValueError):  # closed meanwhile
                poller.register(control.fileno(), 0)
            del client
            poller.poll()
            client = self._client()
            if client is None or self._over:
                break
            done = self._mend(client, time.monotonic() + self.patience)
            with self._changed:
                self._over = self._over or not done
                self._changed.notify_all()
            if not done:
                with contextlib.suppress(_shim.SidecarLost):
                    client._hub.replace(None)
                break
            del client
        self._bell.close()

    def _mend(self, client: Client, deadline: float) -> bool:
        pause = _FIRST_PAUSE_SECONDS
        while not (self._over or client._control.is_closed or is_over(client.address)) and time.monotonic() < deadline:
            try:
                return self._connect(client, deadline)
            except _TRY_AGAIN:
                time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except _shim.RinglaneError as error:
                warnings.warn(f"the lanes of {client.address} cannot go on: {error}", RuntimeWarning, stacklevel=1)
                return False
        return False

    def _connect(self, client: Client, deadline: float) -> bool:
        control = ControlSocket(client.address, max(0.1, deadline - time.monotonic()))
        try:
            reply, files = control.request(
                op="hello", layout_version=_shim.LAYOUT_VERSION, build=_shim.BUILD_HASH, name=client._name
            )
            try:
                for lane in list(client._lanes.values()):
                    if isinstance(lane, JobLane):
                        self._reopen(client, lane, control)
                    else:
                        self._attach(lane, control, deadline)
                client._lanes = {lane.number: lane for lane in client._lanes.values()}
                client._hub.replace(files.pop(0))
            finally:
                close_all(files)
        except BaseException:
            control.close()
            raise
        with self._changed:
            before, client._control = client._control, control
            client._introduce(reply)
            client.admin._control = control
        before.close()
        control.set_timeout(client._timeout)
        return True

    @staticmethod
    def _reopen(client: Client, lane: JobLane, control: ControlSocket) -> None:
        """A lane that the sidecar does not open again ends alone."""
        try:
            lane._reopen(control)
        except _TRY_AGAIN:
            raise
        except (_shim.RinglaneError, ValueError) as error:
            words = f"the lane to {lane.kernel!r} at {client.address} cannot go on: {error}"
            warnings.warn(words, RuntimeWarning, stacklevel=1)
            lane._give_up()
            client._lanes.pop(lane.number, None)

    def _attach(self, lane: Lane, control: ControlSocket, deadline: float) -> None:
        # Nobody takes events between what is said of them and the fresh ring.
        with lane._events_lock:
            _, _, released, _, events_read = lane._shim.cursors
            reply, files = control.request(
                op="attach",
                lane=lane.number,
                token=lane.token,
                released=released,
                events_read=events_read,
                event_number=lane._event_number,
            )
            try:
                while not lane._shim.resume([os.dup(file) for file in files], reply["journaled"]):
                    # Its block must end first: its slots are being filled in the old memory.
                    if time.monotonic() > deadline or not control.is_open():
                        raise _shim.SidecarLost("a reservation was open for too long")
                    time.sleep(_RESERVATION_PAUSE_SECONDS)
            finally:
                close_all(files)


def ask(client: Client, **message: Any) -> tuple[dict[str, Any], list[int]]:
    """A request on the control socket, asked again where the sidecar was started anew meanwhile."""
    while True:
        control = client._control
        try:
            return control.request(**message)
        except _shim.SidecarLost:
            if not client._reattacher.wait(control):
                raise
