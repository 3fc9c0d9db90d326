"""Makes recordings for the tests of what looks at them, and damages them: a few orders whose every answer is known, and
random ones."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import ringlane
from daemon import BINARY

HEADER_BYTES = 64
FRAMES_OFFSET = 4096
#: Where a segment's header holds what the checksums of its frames begin with.
FRAME_SEED_OFFSET = 84


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    """The `ringlane` program; `code` is what it must end with."""
    command = [BINARY, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def trade(journal: Path, seed: int, batches: int = 12) -> ringlane.State:
    """Two clients trade three symbols at random, one after the other; the state that the live sidecar had at the end."""
    random = np.random.default_rng(seed)
    with (
        ringlane.Sidecar(journal=journal) as sidecar,
        ringlane.connect(sidecar.address) as first,
        ringlane.connect(sidecar.address) as second,
    ):
        lanes = [first.open("orders", depth=1024), second.open("orders", depth=1024)]
        entered = 0
        for _ in range(batches):
            for lane in lanes:
                count = int(random.integers(1, 80))
                lane.process(orders(lane, random, entered, count))
                entered += count
        lanes[0].close()  # its orders stay, and nobody is told of their fills
        lanes[1].process(orders(lanes[1], random, entered, 300))
        lanes[1].close()
        return second.state()


def orders(lane: ringlane.Lane, random: np.random.Generator, entered: int, count: int) -> np.ndarray:
    """Random limit orders around one price, some of them without a quantity."""
    return lane.batch(
        symbol=random.integers(1, 4, count),
        side=random.integers(1, 3, count),
        account=random.integers(1, 20, count),
        client_order_id=np.arange(entered + 1, entered + count + 1),
        price=1_000_000 + 100 * random.integers(-20, 21, count),
        quantity=random.integers(0, 50, count),
    )


def copy(journal: Path, name: str) -> Path:
    """A copy of a recording beside it."""
    other = journal.with_name(name)
    shutil.copytree(journal, other)
    return other


def first_segment(journal: Path) -> Path:
    return journal / "00000001.ringlane"


_TABLE = []
for _n in range(256):
    for _ in range(8):
        _n = _n >> 1 ^ (0x82F63B78 if _n & 1 else 0)
    _TABLE.append(_n)


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC32C (Castagnoli), begun with `crc`."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def forge(journal: Path, frame: np.void, changes: dict[int, bytes]) -> None:
    """Writes other bytes into a frame, at offsets from its beginning, and makes its checksum right again."""
    path = first_segment(journal)
    data = bytearray(path.read_bytes())
    seed = int.from_bytes(data[FRAME_SEED_OFFSET : FRAME_SEED_OFFSET + 4], "little")
    begin = int(frame["offset"])
    end = begin + HEADER_BYTES + int(frame["payload_bytes"])
    assert crc32c(bytes(data[begin + 8 : end]), seed) == int(frame["crc32c"])
    for offset, piece in changes.items():
        data[begin + offset : begin + offset + len(piece)] = piece
    data[begin + 4 : begin + 8] = crc32c(bytes(data[begin + 8 : end]), seed).to_bytes(4, "little")
    path.write_bytes(data)


def unpack(archive: Path, directory: Path) -> Path:
    """Unpacks an archive of the project's own; every Python has the words for it."""
    with tarfile.open(archive) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        packed.extractall(directory)
    return directory
