"""A whole Ringlane client in plain Python, written from `layout/PROTOCOL.md` alone: no shim, no numpy.

It shows that the protocol is what its description says, and checks the shim by being something else. It is meant to be
read, not to be fast; one thread at a time may use it. It needs total store order (x86-64): Python has no release
stores, and `fence` leans on the interpreter's own lock.
"""

import contextlib
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import time

MESSAGE_BYTES_MAX, FDS_MAX = 65_536, 4
RECORD_BYTES = 64
LAYOUT_VERSION = 2
SLEEP_SECONDS_MAX = 1.0
U64_MASK = 2**64 - 1
# Words of `requests` and of `results`, as indices of u64.
SUBMITTED, RELEASED, EVENTS_READ, WAITING, EVENTS_WAITING = 16, 32, 48, 64, 80
COMPLETED, ASLEEP, STATUS, EVENTS_PUBLISHED = 16, 32, 48, 64
# fcntl's numbers for the seals (linux/fcntl.h).
F_GET_SEALS, SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_FUTURE_WRITE = 1034, 1, 2, 4, 16


class Refused(Exception):
    """The sidecar refused a request; `code` is one of PROTOCOL.md's."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"{code}: {words}")
        self.code = code


class LaneEnded(Exception):
    """The lane's status is not 0 any more; `status` is a LaneStatus."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the lane ended with status {status}")
        self.status = status


class Disconnected(Exception):
    """The sidecar closed the control socket."""


def fence() -> None:
    """A full memory fence: the interpreter's lock is given up and taken again, by atomic instructions."""
    select.select((), (), (), 0)


def fnv1a(data: bytes, value: int = 0xCBF29CE484222325) -> int:
    """FNV-1a 64."""
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & U64_MASK
    return value


CODES = {"|u1": "B", "<u2": "H", "<u4": "I", "<u8": "Q", "<i8": "q", "<f4": "f", "<f8": "d"}


class Record:
    """A record's schema: packs dicts to bytes and back."""

    def __init__(self, schema: dict) -> None:
        self.name, self.size = schema["name"], schema["size"]
        self.fields = {
            field["name"]: (CODES.get(field["type"]) or f"{field['size']}s", field["offset"])
            for field in schema["fields"]
        }
        value = fnv1a(struct.pack("<Q", self.size), fnv1a(self.name.encode()))
        for field in schema["fields"]:
            value = fnv1a(field["name"].encode(), value)
            value = fnv1a(field["type"].encode() + struct.pack("<Q", field["offset"]), value)
        self.hash = value
        if f"{value:016x}" != schema["hash"]:
            raise ValueError(f"schema of {self.name} hashes to {value:016x}, not to {schema['hash']}")

    def pack(self, values: dict) -> bytes:
        """A record with these fields; the others are zero."""
        record = bytearray(self.size)
        for name, value in values.items():
            code, offset = self.fields[name]
            struct.pack_into("<" + code, record, offset, value)
        return bytes(record)

    def unpack(self, record: bytes) -> dict:
        """The fields of a record."""
        return {name: struct.unpack_from("<" + code, record, offset)[0] for name, (code, offset) in self.fields.items()}


class PlainClient:
    """A connection to the sidecar at `address`."""

    def __init__(
        self, address: str, name: str = "plain", layout_version: int = LAYOUT_VERSION, hello: bool = True
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.lanes: list[PlainLane] = []
        self.notify: socket.socket | None = None
        try:
            self.socket.connect(address)
            if hello:
                self.hello(name, layout_version)
        except BaseException:
            self.socket.close()
            raise

    def hello(self, name: str = "plain", layout_version: int = LAYOUT_VERSION) -> dict:
        """Introduces the client; gives the reply."""
        self.info, fds = self.ask(op="hello", layout_version=layout_version, build="plain", name=name)
        self.notify = socket.socket(fileno=fds[0])
        self.rows = {row["name"]: Record(row) for row in self.info["rows"]}
        return self.info

    def ask(self, **message: object) -> tuple[dict, list[int]]:
        """Sends one request; gives the reply and its file descriptors. Raises `Refused` or `Disconnected`."""
        try:
            with contextlib.suppress(BrokenPipeError):  # who is turned away finds the words that were left
                self.socket.send(json.dumps(message).encode())
            data, fds, _, _ = socket.recv_fds(self.socket, MESSAGE_BYTES_MAX, FDS_MAX, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise Disconnected(str(error)) from error
        if not data:
            raise Disconnected("end of file")
        reply = json.loads(data)
        if not reply["ok"]:
            raise Refused(reply["error"], reply["message"])
        return reply, list(fds)

    def open(self, depth: int = 64, **options: object) -> "PlainLane":
        """Opens the order lane; `options` are those of the `open` message."""
        reply, fds = self.ask(op="open", kernel=options.pop("kernel", "orders"), depth=depth, **options)
        lane = PlainLane(self, reply, fds)
        self.lanes.append(lane)
        return lane

    def query(self, what: str, **values: int) -> tuple[dict, list[dict]]:
        """A question about the state: the reply, and its rows as dicts."""
        reply, fds = self.ask(op="query", what=what, **values)
        if not fds:
            return reply, []
        record = self.rows[reply["row"]]
        try:
            data = os.pread(fds[0], reply["rows"] * record.size, 0) if reply["rows"] else b""
        finally:
            os.close(fds[0])
        return reply, [record.unpack(data[at : at + record.size]) for at in range(0, len(data), record.size)]

    def close(self) -> None:
        """Ends the connection, and with it every lane."""
        self.socket.close()
        if self.notify is not None:
            self.notify.close()
        for lane in self.lanes:
            lane.unmap()


class PlainLane:
    """An open lane. `submitted`, `released` and `events_read` are this client's cursors."""

    def __init__(self, client: PlainClient, reply: dict, fds: list[int]) -> None:
        self.client, self.reply, self.number = client, reply, reply["lane"]
        self.depth, self.events_capacity = reply["depth"], reply["events"]
        self.requests_fd, self.results_fd, self.doorbell = fds
        self.request, self.result, self.event = (Record(reply[kind]) for kind in ("request", "result", "event"))
        self.submitted = self.released = self.events_read = 0
        self.doorbells = 0
        seals = SEAL_SHRINK | SEAL_GROW | SEAL_SEAL
        self._check(self.requests_fd, reply["requests_bytes"], seals)
        self._check(self.results_fd, reply["results_bytes"], seals | SEAL_FUTURE_WRITE)
        self.requests = mmap.mmap(self.requests_fd, reply["requests_bytes"])
        self.results = mmap.mmap(self.results_fd, reply["results_bytes"], prot=mmap.PROT_READ)
        self.mine = memoryview(self.requests).cast("Q")
        self.theirs = memoryview(self.results).cast("Q")
        self._check_header(self.theirs, b"RLRES001", self.result)
        self._check_header(self.mine, b"RLREQ001", self.request)

    @staticmethod
    def _check(fd: int, size: int, seals: int) -> None:
        found = fcntl.fcntl(fd, F_GET_SEALS)
        if os.fstat(fd).st_size != size or found & seals != seals:
            raise ValueError(f"a region has {os.fstat(fd).st_size} bytes and seals {found:#x}")

    def _check_header(self, words: memoryview, magic: bytes, record: Record) -> None:
        first = (int.from_bytes(magic, "little"), LAYOUT_VERSION | RECORD_BYTES << 32)
        expected = (*first, self.depth, self.number, record.hash, self.events_capacity, 0)
        if tuple(words[:7]) != expected:
            raise ValueError(f"a region's header is {tuple(words[:7])}, not {expected}")

    # ---- slots ----

    @property
    def completed(self) -> int:
        """Slots whose results can be read."""
        return self.theirs[COMPLETED]

    @property
    def status(self) -> int:
        """0 while the lane is open, else a LaneStatus."""
        return self.theirs[STATUS]

    def fill(self, orders: list[dict]) -> None:
        """Writes requests into the next free slots, without publishing them."""
        if self.submitted + len(orders) - self.released > self.depth:
            raise ValueError("there are not so many free slots")
        for slot, order in enumerate(orders, self.submitted):
            at = self.reply["ring_offset"] + slot % self.depth * RECORD_BYTES
            self.requests[at : at + RECORD_BYTES] = self.request.pack(order)

    def publish(self, count: int) -> bool:
        """Publishes `count` filled slots. True: the sidecar was asleep, and its doorbell was rung."""
        self.submitted += count
        self.mine[SUBMITTED] = self.submitted
        fence()
        if self.theirs[ASLEEP] == 0:
            return False
        self.ring()
        return True

    def ring(self) -> None:
        """Rings the doorbell."""
        self.doorbells += 1
        os.write(self.doorbell, struct.pack("<Q", 1))

    def wait(self, target: int, timeout: float = 10.0) -> None:
        """Sleeps until `completed` reaches `target`. Raises `LaneEnded` or `TimeoutError`."""
        self._sleep(WAITING, COMPLETED, target, timeout)

    def wait_events(self, target: int, timeout: float = 10.0) -> None:
        """Sleeps until `events_published` reaches `target`."""
        self._sleep(EVENTS_WAITING, EVENTS_PUBLISHED, target, timeout)

    def _sleep(self, announce: int, cursor: int, target: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.theirs[cursor] < target:
            self.mine[announce] = target
            fence()
            if self.theirs[cursor] >= target:
                return
            if self.status:
                raise LaneEnded(self.status)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"waited {timeout} s for cursor {target}; it stands at {self.theirs[cursor]}")
            select.select([self.client.notify], [], [], min(left, SLEEP_SECONDS_MAX))
            with contextlib.suppress(BlockingIOError):
                self.client.notify.recv(4096)

    def read(self, slot: int) -> dict:
        """The result in a completed slot that was not released."""
        at = self.reply["ring_offset"] + slot % self.depth * RECORD_BYTES
        return self.result.unpack(self.results[at : at + RECORD_BYTES])

    def release(self, released: int) -> None:
        """Gives back all slots below `released`."""
        self.released = released
        self.mine[RELEASED] = released

    def process(self, orders: list[dict], timeout: float = 10.0) -> list[dict]:
        """Submits orders, waits, and gives their results; the slots are released."""
        first = self.submitted
        self.fill(orders)
        self.publish(len(orders))
        self.wait(self.submitted, timeout)
        results = [self.read(slot) for slot in range(first, self.submitted)]
        self.release(self.submitted)
        return results

    # ---- events ----

    def take_events(self, count_max: int = 1 << 20) -> list[dict]:
        """The events that are published and were not read."""
        end = min(self.theirs[EVENTS_PUBLISHED], self.events_read + count_max)
        ring, mask = self.reply["event_ring_offset"], self.events_capacity - 1
        places = (ring + (number & mask) * RECORD_BYTES for number in range(self.events_read, end))
        events = [self.event.unpack(self.results[at : at + RECORD_BYTES]) for at in places]
        self.events_read = end
        self.mine[EVENTS_READ] = end
        return events

    # ---- end ----

    def close(self) -> None:
        """Closes the lane; its regions stay mapped, so that results can still be read."""
        self.client.ask(op="close", lane=self.number)

    def unmap(self) -> None:
        """Gives back mappings and descriptors."""
        for view in (self.mine, self.theirs, self.requests, self.results):
            view.release() if isinstance(view, memoryview) else view.close()
        for fd in (self.requests_fd, self.results_fd, self.doorbell):
            with contextlib.suppress(OSError):
                os.close(fd)
