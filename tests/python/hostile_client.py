"""Clients that mean harm, each a process of its own: `hostile_client.py KIND ADDRESS [UID]` runs until it is killed.

It prints `ready` when its attack is under way, and ends with an error when something succeeds that must not. The kinds
whose names begin with `honest` do the same work as the others by the rules: what they cost their neighbours is what is compared.
"""

import array
import contextlib
import ctypes
import mmap
import os
import random
import select
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from plain_client import (
    ASLEEP,
    COMPLETED,
    EVENTS_READ,
    EVENTS_WAITING,
    RELEASED,
    STATUS,
    SUBMITTED,
    U64_MASK,
    WAITING,
    Disconnected,
    PlainClient,
    PlainLane,
    Refused,
    fence,
)

ACCOUNTS = (1000, 2000)
DEPTH = 1024
RING = 4096
# Made before privileges are given up: afterwards Python's own files may be out of reach.
RANDOM = np.random.default_rng()


_told: list[bool] = []


def ready() -> None:
    """Says that the attack is under way, once."""
    if not _told:
        _told.append(True)
        print("ready", flush=True)


class Attacker:
    """A connection with a lane, made anew whenever the sidecar has ended the old one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client: PlainClient | None = None
        self.next_id = 0
        self.fresh()

    def fresh(self) -> PlainLane:
        """Another connection and lane; the old ones are closed."""
        if self.client is not None:
            self.client.close()
        while True:
            try:
                self.client = PlainClient(self.address, "hostile")
                self.lane = self.client.open(DEPTH, accounts=list(ACCOUNTS), cancel_on_disconnect=True)
                return self.lane
            except Refused:  # what it held is not given back yet
                self.client.close() if self.client else None
                time.sleep(0.01)

    def order(self) -> dict:
        """An order that never rests."""
        self.next_id += 1
        order = {"op": 1, "side": 1, "order_type": 1, "time_in_force": 2, "symbol": 1, "account": ACCOUNTS[0]}
        return {**order, "client_order_id": self.next_id, "price": 1_000_000, "quantity": 1}

    def template(self) -> np.ndarray:
        """A ring full of orders, as words."""
        record = self.lane.request.pack(self.order())
        return np.frombuffer(record * DEPTH, np.uint64).copy()

    def words(self) -> np.ndarray:
        """The whole of `requests`, writable, as words."""
        return np.frombuffer(self.lane.requests, np.uint64)

    def ring(self) -> np.ndarray:
        """The record ring."""
        return self.words()[RING // 8 : (RING + DEPTH * 64) // 8]

    def submit_full(self) -> None:
        """Submits a full ring and waits for it, by the rules."""
        lane = self.lane
        lane.publish(DEPTH)
        lane.wait(lane.submitted, 30)
        lane.release(lane.submitted)


def honest(attacker: Attacker) -> None:
    """Full rings of orders, by the rules, as fast as it can."""
    attacker.ring()[:] = attacker.template()
    while True:
        attacker.submit_full()
        ready()


def honest_pair(attacker: Attacker) -> None:
    """As `honest`, and a second process that works without end."""
    if os.fork() == 0:
        parent = os.getppid()
        while os.getppid() == parent:
            attacker.template()
        os._exit(0)
    honest(attacker)


def honest_comer(attacker: Attacker) -> None:
    """Comes, opens a lane, trades, closes it and goes, as often as it can."""
    while True:
        attacker.ring()[:] = attacker.template()
        attacker.submit_full()
        attacker.lane.close()
        ready()
        attacker.fresh()


def honest_asker(attacker: Attacker) -> None:
    """Rests as many orders as `asks_state`, and asks for the state again whenever it was answered."""
    rest_orders(attacker)
    while True:
        attacker.client.query("state")
        ready()


def flip_records(attacker: Attacker) -> None:
    """Records change at full speed while they are taken: one process flips bits, another publishes."""
    ring, masks = attacker.ring(), RANDOM.integers(0, 2**63, size=(64, DEPTH * 8), dtype=np.uint64)
    if os.fork() == 0:
        parent = os.getppid()
        while os.getppid() == parent:
            for mask in masks:
                ring ^= mask & np.roll(mask, 1) & np.roll(mask, 3)
        os._exit(0)
    good = attacker.template()
    while True:
        ring[:] = good
        attacker.submit_full()
        ready()


def flip_cursors(attacker: Attacker) -> None:
    """Random bits in every word of the header page, while slots are published."""
    while True:
        header = attacker.words()[: RING // 8]
        for _ in range(200):
            header[random.choice((SUBMITTED, RELEASED, EVENTS_READ, WAITING, EVENTS_WAITING))] ^= np.uint64(
                1 << random.randrange(64)
            )
            if attacker.lane.status:
                break
        del header  # a mapping closes only when nothing looks at it
        ready()
        if attacker.lane.status:
            attacker.fresh()


def jump_cursors(attacker: Attacker) -> None:
    """`submitted` and `released` forward and back, far and near."""
    jumps = (1, DEPTH, DEPTH + 1, 2**32, 2**63, U64_MASK)
    for turn in range(2**62):
        attacker.ring()[:] = attacker.template()
        attacker.submit_full()
        word = (SUBMITTED, RELEASED)[turn % 2]
        was, jump = attacker.lane.mine[word], random.choice(jumps)
        attacker.lane.mine[word] = (was + jump if turn % 4 < 2 else was - jump) & U64_MASK
        attacker.lane.mine[SUBMITTED] = (attacker.lane.mine[SUBMITTED] + 1) & U64_MASK
        attacker.lane.ring()
        ready()
        deadline = time.monotonic() + 0.02
        while attacker.lane.status == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
        attacker.fresh()


def every_fd() -> list[int]:
    """One descriptor of every kind that a process can send."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    streams = socket.socketpair()
    memory = os.memfd_create("hostile")
    os.ftruncate(memory, 1 << 30)
    fds = [end.detach() for end in (*ends, *streams)]
    fds += [*os.pipe(), memory, select.epoll().fileno(), os.open("/", os.O_PATH), os.open("/dev/null", os.O_RDWR)]
    fds += [os.open("/proc/self/status", os.O_RDONLY), os.open("/", os.O_DIRECTORY), os.pidfd_open(os.getpid())]
    if hasattr(os, "eventfd"):
        fds.append(os.eventfd(0))
    with tempfile.TemporaryFile() as file:
        fds.append(os.dup(file.fileno()))
    return [fd for fd in map(os.dup, filter(alive, fds))]


def alive(fd: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


def send_fds(attacker: Attacker) -> None:
    """Descriptors of every kind, one and many at a time, with and without a message that makes sense."""
    fds = every_fd()
    for turn in range(2**62):
        with contextlib.suppress(OSError, Disconnected, Refused):
            client = PlainClient(attacker.address, "hostile")
            sent = fds if turn % 2 else [random.choice(fds)]
            data = b'{"op":"query","what":"state"}' if turn % 3 else b"x"
            client.socket.sendmsg(
                [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent * (1 + turn % 9)))]
            )
            client.socket.settimeout(1)
            if client.socket.recv(65536):
                sys.exit("a message with descriptors was answered")
        client.close()
        ready()


def long_messages(attacker: Attacker) -> None:
    """Messages longer than allowed, up to what the socket takes, and deep ones."""
    texts = [
        b"[" * 65_536,
        b'{"op":' * 10_000,
        b" " * 65_536,
        b"x" * 65_537,
        b"{" * 150_000,
        b'{"op":"open","kernel":"' + b"k" * 60_000 + b'"}',
    ]
    while True:
        for text in texts:
            with contextlib.suppress(OSError, Disconnected, Refused):
                client = PlainClient(attacker.address, "hostile")
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                client.socket.send(text)
                client.socket.recv(65536)
            client.close()
            ready()


def half_messages(attacker: Attacker) -> None:
    """Half a message, or none, and then silence, on as many connections as it gets."""
    held: list[socket.socket] = []
    for turn in range(2**62):
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            end.connect(attacker.address)
            if turn % 2:
                end.send(b'{"op":"hello","layout_ver')
            held.append(end)
        while len(held) > 200:
            held.pop(0).close()
        ready()
        time.sleep(0.001)


def connects(attacker: Attacker) -> None:
    """Connects and goes, as often as it can: ten thousand times a second and more."""
    while True:
        for _ in range(100):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            with contextlib.suppress(OSError):
                end.connect(attacker.address)
            end.close()
        ready()


def misuse_fds(attacker: Attacker) -> None:
    """Drains, fills and sets to blocking every descriptor that it holds, and goes on submitting."""
    while True:
        lane, client = attacker.lane, attacker.client
        for fd in (lane.doorbell, client.notify.fileno(), client.socket.fileno(), lane.requests_fd, lane.results_fd):
            os.set_blocking(fd, True)
            os.set_blocking(fd, False)
        for fd in (lane.doorbell, client.notify.fileno()):
            for _ in range(1000):
                try:
                    os.write(fd, struct.pack("<Q", U64_MASK - 1) if fd == lane.doorbell else b"x" * 65_536)
                except OSError:
                    break
            os.set_blocking(fd, True)
        attacker.ring()[:] = attacker.template()
        fence()
        lane.mine[WAITING] = lane.submitted + 1
        lane.submitted += 1
        lane.mine[SUBMITTED] = lane.submitted
        ready()
        time.sleep(0.001)
        os.set_blocking(lane.doorbell, False)
        with contextlib.suppress(OSError):
            os.read(lane.doorbell, 8)
            os.write(lane.doorbell, struct.pack("<Q", 1))
        lane.release(lane.theirs[COMPLETED])
        if lane.status:
            attacker.fresh()


def never_reads(attacker: Attacker) -> None:
    """Submits until nothing fits, and never looks at results, events, notifications or replies."""
    attacker.ring()[:] = attacker.template()
    attacker.lane.publish(DEPTH)
    while True:
        attacker.lane.mine[WAITING] = random.randrange(1, DEPTH)
        client = PlainClient(attacker.address, "hostile")
        client.socket.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                client.socket.send(b'{"op":"query","what":"instruments"}')
        time.sleep(0.005)
        client.close()
        ready()


def keeps_fds(attacker: Attacker) -> None:
    """Opens lanes, closes them, and keeps descriptors and mappings; never closes others at all."""
    kept: list[object] = []
    while True:
        try:
            client = PlainClient(attacker.address, "hostile")
            lane = client.open(64, accounts=list(ACCOUNTS))
            lane.process([attacker.order()])
            if len(kept) % 2:
                lane.close()
            kept.append((client, lane))
        except (Refused, Disconnected):  # its quota is full: go on asking
            time.sleep(0.001)
            client.socket.close()
            ready()


def waits_for_ever(attacker: Attacker) -> None:
    """`waiting` is always set, to values far and near, and the notify socket is never read."""
    attacker.ring()[:] = attacker.template()
    while True:
        lane = attacker.lane
        for _ in range(64):
            lane.mine[WAITING] = random.choice((lane.submitted + 1, U64_MASK, lane.submitted + 16))
            lane.mine[EVENTS_WAITING] = 1
            lane.submitted += 16
            lane.mine[SUBMITTED] = lane.submitted
            if lane.theirs[ASLEEP]:
                lane.ring()
            while lane.theirs[COMPLETED] < lane.submitted and lane.status == 0:
                time.sleep(0)
            lane.release(lane.submitted)
        ready()


def writes_results(attacker: Attacker) -> None:
    """Every way to write or resize what only the sidecar writes. None may succeed."""
    lane, libc = attacker.lane, ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    size, failed = lane.reply["results_bytes"], ctypes.c_void_p(-1).value
    while True:
        fds = [lane.results_fd]
        with contextlib.suppress(OSError):
            fds.append(os.open(f"/proc/self/fd/{lane.results_fd}", os.O_RDWR))
        for fd in fds:
            attempts: list[tuple[str, Callable[[], object]]] = [
                ("mmap", lambda fd=fd: mmap.mmap(fd, size)),
                ("write", lambda fd=fd: os.pwrite(fd, b"x" * 64, RING)),
                ("ftruncate down", lambda fd=fd: os.ftruncate(fd, 0)),
                ("ftruncate up", lambda fd=fd: os.ftruncate(fd, size + 4096)),
                ("ftruncate requests", lambda: os.ftruncate(lane.requests_fd, 0)),
            ]
            for name, attempt in attempts:
                try:
                    attempt()
                except OSError:
                    continue
                sys.exit(f"{name} succeeded")
            mapped = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
            if mapped == failed:
                sys.exit("results cannot be read")
            if libc.mprotect(mapped, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0:
                sys.exit("mprotect succeeded")
            if libc.madvise(mapped, size, 9) == 0:  # MADV_REMOVE
                sys.exit("MADV_REMOVE succeeded")
            if libc.fallocate(fd, 3, RING, 4096) == 0:  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                sys.exit("a hole was punched")
            libc.munmap(ctypes.c_void_p(mapped), ctypes.c_size_t(size))
        for fd in fds[1:]:
            os.close(fd)
        # What it may do to its own `requests` hurts itself only.
        libc.fallocate(lane.requests_fd, 3, RING, 4096)
        ready()


def honest_inquirer(attacker: Attacker) -> None:
    """Asks for the instruments again whenever it was answered, and reads every answer."""
    while True:
        attacker.client.query("instruments")
        ready()


def rest_orders(attacker: Attacker) -> None:
    """Rests as many orders as a ring or twenty hold."""
    lane = attacker.lane
    for round_ in range(20):
        orders = [
            {**attacker.order(), "time_in_force": 1, "price": 100 * (1 + round_ * DEPTH + index)}
            for index in range(DEPTH)
        ]
        attacker.ring()[:] = np.frombuffer(b"".join(lane.request.pack(order) for order in orders), np.uint64)
        attacker.submit_full()


def asks_state(attacker: Attacker) -> None:
    """Rests many orders, then asks for the state's hash without end, on many connections."""
    rest_orders(attacker)
    askers = [PlainClient(attacker.address, "asker") for _ in range(20)]
    message = b'{"op":"query","what":"state"}'
    for asker in askers:
        asker.socket.setblocking(False)
    while True:
        for asker in askers:
            with contextlib.suppress(BlockingIOError):
                asker.socket.send(message)
            with contextlib.suppress(BlockingIOError):
                if not asker.socket.recv(4096):
                    sys.exit("an asker was disconnected")
                ready()
        select.select([asker.socket for asker in askers], [], [], 0.01)


def honest_digester(attacker: Attacker) -> None:
    """Comes, opens a lane of digests, asks for some, and goes, as often as it can."""
    digest(attacker, is_honest=True)


def digest_lengths(attacker: Attacker) -> None:
    """Payloads of enormous lengths and offsets, up to the whole arena and far beyond, which change while they are looked at."""
    digest(attacker, is_honest=False)


def digest(attacker: Attacker, is_honest: bool) -> None:
    """Lanes of digests, one behind the other."""
    edges = (0, 1, 63, 1 << 20, (1 << 20) + 1, 1 << 32, 1 << 63, U64_MASK, U64_MASK - (1 << 20) + 1)
    parameters = {"algorithm": "sha256", "arena_bytes": 1 << 20}
    while True:
        try:
            client = PlainClient(attacker.address, "hostile")
            reply, fds = client.ask(op="open", kernel="digests", depth=64, parameters=parameters)
        except (Refused, Disconnected):  # its quota is full of what is being taken back
            time.sleep(0.01)
            continue
        requests = mmap.mmap(fds[0], reply["requests_bytes"])
        results = mmap.mmap(fds[1], reply["results_bytes"], prot=mmap.PROT_READ)
        mine, theirs = memoryview(requests).cast("Q"), memoryview(results).cast("Q")
        submitted, places = 0, range(RING // 8, RING // 8 + 64 * 8, 8)
        while theirs[STATUS] == 0 and submitted < 256:
            for place in places:
                mine[place], mine[place + 1] = (
                    (0, 1 << 12) if is_honest else (0, 1 << 20) if submitted < 64 else random.choices(edges, k=2)
                )
            submitted += 64
            mine[SUBMITTED] = submitted
            fence()
            os.write(fds[2], struct.pack("<Q", 1))
            deadline = time.monotonic() + (10 if is_honest else 0.05)
            while theirs[COMPLETED] < submitted and theirs[STATUS] == 0 and time.monotonic() < deadline:
                mine[random.choice(places) + random.randrange(2)] ^= 0 if is_honest else 1 << random.randrange(64)
            mine[RELEASED] = theirs[COMPLETED]
            ready()
        for view in (mine, theirs):
            view.release()
        for held in (requests, results, client):
            held.close()
        for fd in fds:
            os.close(fd)


KINDS = {
    kind.__name__: kind
    for kind in (
        honest, honest_pair, honest_comer, honest_asker, honest_inquirer, honest_digester, flip_records, flip_cursors, jump_cursors, send_fds, long_messages, half_messages, connects,
        misuse_fds, never_reads, keeps_fds, waits_for_ever, writes_results, asks_state, digest_lengths,
    )
}  # fmt: skip

if __name__ == "__main__":
    if len(sys.argv) > 3:
        os.setgroups([])
        os.setgid(int(sys.argv[3]))
        os.setuid(int(sys.argv[3]))
    KINDS[sys.argv[1]](Attacker(sys.argv[2]))
