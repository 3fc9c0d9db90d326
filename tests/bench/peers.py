"""What a Python user would take instead: 64 bytes there and back between two processes, pinned as our pairs are.

Servers run as processes of their own on the sidecar's core; the asking side runs here, on the client's core, and is
timed by the same loops as Ringlane. `peer_iceoryx2.py` runs in `.venv-bench`, because Ringlane needs no peer installed.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.measure import pin, time_each
from bench.paths import PEER_ENVIRONMENT, ROOT
from bench.row import Bench

RECORD = bytes(64)
PROCESSES = multiprocessing.get_context("spawn")


@contextmanager
def serving(target: Any, *arguments: Any) -> Iterator[None]:
    """A server process that ends with the block."""
    process = PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.join(2)
        process.terminate()
        process.join()


def echo_pipe(end: Connection, cpu: int) -> None:
    """Server: gives every message back; an empty one ends it."""
    pin(cpu)
    while message := end.recv_bytes():
        end.send_bytes(message)


@contextmanager
def pipe(bench: Bench) -> Iterator[Connection]:
    """A `multiprocessing.Pipe` with an echo at its other end."""
    ours, theirs = PROCESSES.Pipe()
    with serving(echo_pipe, theirs, bench.sidecar_cpu):
        ours.send_bytes(RECORD)
        ours.recv_bytes()
        yield ours
        ours.send_bytes(b"")


def pipe_rate(end: Connection, count: int, window: int = 256) -> float:
    """Echoes a second with up to `window` in flight."""
    sent = received = 0
    start = time.perf_counter()
    while received < count:
        while sent < count and sent - received < window:
            end.send_bytes(RECORD)
            sent += 1
        end.recv_bytes()
        received += 1
    return count / (time.perf_counter() - start)


def echo_socket(end: socket.socket, cpu: int) -> None:
    """Server: gives back what it reads, until the other end closes."""
    pin(cpu)
    while message := end.recv(65_536):
        end.sendall(message)


@contextmanager
def unix_socket(bench: Bench) -> Iterator[socket.socket]:
    """A raw Unix stream socket with an echo at its other end; both sides block, so both sleep between messages."""
    ours, theirs = socket.socketpair()
    with serving(echo_socket, theirs, bench.sidecar_cpu), ours:
        theirs.close()
        ours.sendall(RECORD)
        ours.recv(64)
        yield ours


def time_socket(end: socket.socket, count: int, pause_s: float) -> list[int]:
    """Times echoes over the socket, ns, after a sleep each."""

    def call() -> None:
        end.sendall(RECORD)
        end.recv(64)

    return time_each(call, count, pause_s)


def peer_python() -> Path:
    """The interpreter of the peers' environment, which is made when it is missing."""
    python = PEER_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", PEER_ENVIRONMENT], check=True)
    stamp = PEER_ENVIRONMENT / "installed-requirements.txt"
    extra = [sys.executable, str(ROOT / "python" / "extra.py"), "bench"]
    wanted = subprocess.run(extra, check=True, capture_output=True, text=True).stdout
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted.split()], check=True)
        stamp.write_text(wanted)
    return python


def iceoryx2(bench: Bench, count: int) -> dict[str, Any]:
    """iceoryx2's own Python binding, request-response, both sides polling; its figures as JSON."""
    script = Path(__file__).with_name("peer_iceoryx2.py")
    cores = [str(bench.client_cpu), str(bench.sidecar_cpu)]
    command = [str(peer_python()), str(script), str(count), *cores]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
