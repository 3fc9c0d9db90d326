"""Rights beyond orders: lanes of jobs, administration, and questions, each asked by a user who has them not."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ringlane
from daemon import Daemon, until
from plain_client import PlainClient
from test_access import as_user, code, needs_root

DIGESTER, TRADER = 4301, 4302
#: One for each way out of the corpus directory: a user has one log line a second.
LOADERS = range(4310, 4320)
SHA256 = {"algorithm": "sha256", "arena_bytes": 4096}
RULES = f"""
[access]
socket_mode = "666"

[[access.rules]]
uids = [{DIGESTER}]
kernels = ["digests"]
depth_max = 256
lanes_max = 2
bytes_max = 100000

[[access.rules]]
uids = [{TRADER}]
kernels = ["orders"]
accounts = [[1, 9]]

[[access.rules]]
uids = {list(LOADERS)}
kernels = ["vectors"]
corpora = ["news*"]

[[access.rules]]
uids = [{os.geteuid()}]
administer = true

[vectors]
corpus_directory = "DIRECTORY/corpora"
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    directory = Path(tempfile.mkdtemp(prefix="ringlane-rights-"))
    directory.chmod(0o711)
    (directory / "corpora/inside").mkdir(parents=True)
    running = Daemon(directory, journal=False, config=RULES.replace("DIRECTORY", str(directory)))
    yield running.ready()
    assert running.stop() == 0
    shutil.rmtree(directory)


@needs_root
def test_lanes_of_jobs_are_permitted_and_paid_for_as_others(daemon: Daemon) -> None:
    def digester() -> list:
        client = PlainClient(daemon.address)
        shares = [
            code(
                lambda: client.ask(op="open", kernel="vectors", depth=64, events=64, parameters={"dim": 4, "op": "dot"})
            ),
            code(lambda: client.ask(op="open", kernel="orders", depth=64, events=64)),
            code(lambda: client.ask(op="open", kernel="digests", depth=512, events=64, parameters=SHA256)),
        ]
        wide = {**SHA256, "arena_bytes": 1 << 20}
        shares.append(code(lambda: client.ask(op="open", kernel="digests", depth=64, events=64, parameters=wide)))
        client.ask(op="open", kernel="digests", depth=64, events=64, parameters=SHA256)
        PlainClient(daemon.address).ask(op="open", kernel="digests", depth=64, events=64, parameters=SHA256)
        third = PlainClient(daemon.address)
        shares.append(code(lambda: third.ask(op="open", kernel="digests", depth=64, events=64, parameters=SHA256)))
        return shares

    assert as_user(DIGESTER, digester) == ["NOT_PERMITTED", "NOT_PERMITTED", "QUOTA", "QUOTA", "QUOTA"]
    trader = as_user(
        TRADER,
        lambda: PlainClient(daemon.address).ask(op="open", kernel="digests", depth=64, events=64, parameters=SHA256),
    )
    assert trader[:2] == ["refused", "NOT_PERMITTED"]


@needs_root
def test_what_is_not_permitted_is_an_exception_of_its_own(daemon: Daemon) -> None:
    def trader() -> list:
        with ringlane.connect(daemon.address) as client:
            acts = {
                "halt": lambda: client.admin.halt(1),
                "cancel": lambda: client.admin.cancel_all(account=1),
                "snapshot": client.snapshot,
                "orders": lambda: client.orders(10),
                "lane": lambda: client.open("orders", accounts=(1, 10)),
            }
            seen = []
            for name, act in acts.items():
                try:
                    act()
                except ringlane.NotPermitted as refusal:
                    seen.append(
                        [name, isinstance(refusal, ringlane.SidecarUnavailable), "access.rules" in str(refusal)]
                    )
            return seen

    expected = [[name, True, True] for name in ("halt", "cancel", "snapshot", "orders", "lane")]
    assert as_user(TRADER, trader) == expected
    with ringlane.connect(daemon.address) as client:
        client.admin.halt(1)
        client.admin.resume(1)


@needs_root
def test_who_asks_too_much_waits_and_is_answered(daemon: Daemon) -> None:
    """Answers come in the order of the questions and none is lost; an impatient client that goes leaves nothing behind."""

    def flood() -> list:
        client = PlainClient(daemon.address)
        asked = 3000
        answered, sent = [], 0
        client.socket.settimeout(30)
        while len(answered) < asked:
            while sent < asked and sent - len(answered) < 8:
                client.socket.send(f'{{"op":"query","what":"state","id":{sent}}}'.encode())
                sent += 1
            reply = client.socket.recv(4096)
            answered.append(json.loads(reply)["id"])
        return [answered == list(range(asked))]

    assert as_user(TRADER, flood) == [True]

    def leaves() -> list:
        for _ in range(20):
            client = PlainClient(daemon.address)
            for _ in range(8):
                client.socket.send(b'{"op":"query","what":"state"}')
            client.socket.close()
        return []

    as_user(TRADER, leaves)
    deadline = time.monotonic() + 20
    while daemon.status()["clients"]:
        assert time.monotonic() < deadline, "its connections are still there"
        time.sleep(0.02)


@needs_root
def test_corpora_come_from_their_directory_only(daemon: Daemon) -> None:
    """Every other path is refused with a code, counted, and told with uid and pid; what may be loaded, is."""
    allowed = daemon.directory / "corpora"
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    for path in (allowed / "good.npy", allowed / "inside/good.npy", daemon.directory / "outside.npy"):
        np.save(path, vectors)
    (allowed / "link.npy").symlink_to("good.npy")
    (allowed / "way_out.npy").symlink_to(daemon.directory / "outside.npy")
    (allowed / "door").symlink_to(daemon.directory)
    os.mkfifo(allowed / "pipe.npy")
    (allowed / "directory.npy").mkdir()
    ways = [
        ("news", "../outside.npy", "BAD_VALUE"),
        ("news", "inside/../../outside.npy", "BAD_VALUE"),
        ("news", str(allowed / "good.npy"), "BAD_VALUE"),
        ("news", "link.npy", "BAD_VALUE"),
        ("news", "way_out.npy", "BAD_VALUE"),
        ("news", "door/outside.npy", "BAD_VALUE"),
        ("news", "pipe.npy", "BAD_VALUE"),
        ("news", "directory.npy", "BAD_VALUE"),
        ("news", "/proc/self/root/etc/passwd.npy", "BAD_VALUE"),
        ("prices", "good.npy", "NOT_PERMITTED"),
    ]

    def load(name: str, path: str, **more: str) -> list:
        client = PlainClient(daemon.address)
        asked = code(lambda: client.ask(op="corpus", what="load", name=name, path=path, metric="ip", **more))
        return [asked, os.getpid()]

    before = daemon.status()["refused"]
    for uid, (name, path, expected) in zip(LOADERS, ways, strict=True):
        refused, pid = as_user(uid, lambda name=name, path=path: load(name, path))
        assert refused == expected, path
        told = [line for line in daemon.words().splitlines() if f"uid={uid} pid={pid} " in line and "refused: " in line]
        assert len(told) == 1, path
    until(lambda: daemon.status()["refused"] == before + len(ways), what="the count of each")
    # The file of ids has no other way either.
    assert as_user(LOADERS[0], lambda: load("news", "good.npy", ids="../outside.npy"))[0] == "BAD_VALUE"

    def loads() -> list:
        client = PlainClient(daemon.address)
        for path in ("good.npy", "inside/good.npy"):
            client.ask(op="corpus", what="load", name=f"news-{path[0]}", path=path, metric="ip")
        return [corpus["name"] for corpus in client.ask(op="corpus", what="list")[0]["corpora"]]

    assert as_user(LOADERS[0], loads) == ["news-g", "news-i"]
