"""Who may do what: rules by user and group, quotas, accounts, watchers, SIGHUP, and memory that cannot be had.

Most of it needs other users, and so root; without it those tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from daemon import BINARY, Daemon, new_order, until
from plain_client import Disconnected, PlainClient, Refused

NOT_PERMITTED = 203  # RejectCode
UNKNOWN_ORDER_ID = 211
TRADER, OTHER, WATCHER, GROUP, STRANGER = 4243, 4244, 4245, 4250, 4246

RULES = f"""
[access]
socket_mode = "666"

[[access.rules]]
uids = [0]
administer = true

[[access.rules]]
uids = [{TRADER}]
kernels = ["orders"]
accounts = [[10, 19]]
lanes_max = 2
depth_max = 256
bytes_max = 400000
clients_max = 3

[[access.rules]]
uids = [{WATCHER}]
watch_only = true

[[access.rules]]
gids = [{GROUP}]
accounts = [[20, 29], [40, 49]]
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


@pytest.fixture(scope="module", autouse=True)
def reachable() -> Iterator[None]:
    """Other users run the program too, wherever this checkout lies."""
    with tempfile.TemporaryDirectory(prefix="ringlane-access-") as directory:
        Path(directory).chmod(0o711)
        with mock.patch("daemon.BINARY", shutil.copy(BINARY, directory)):
            yield


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="ringlane-access-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(directory: Path) -> Iterator[Callable[..., Daemon]]:
    running = []

    def run(config: str = RULES, **more: object) -> Daemon:
        running.append(Daemon(directory, config=config, **more))
        return running[-1].ready()

    yield run
    for daemon in running:
        daemon.stop()


def as_user(uid: int, do: Callable[[], object], groups: tuple[int, ...] = ()) -> object:
    """What `do` returns in a process of that user, through JSON; its exceptions come as ["refused", code, words]."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            try:
                answer = do()
            except Refused as refused:
                answer = ["refused", refused.code, str(refused)]
            except Exception as error:  # what went wrong is the answer
                answer = [type(error).__name__, str(error)]
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(answer)


def code(do: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        do()
    return refused.value.code


def soon(do: Callable[[], Any], seconds: float = 5.0) -> Any:
    """What `do` returns as soon as it is not refused for its quota: what is given back is noticed within milliseconds of quiet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return do()
        except Refused as refused:
            if refused.code != "QUOTA" or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def check(text: str, directory: Path) -> subprocess.CompletedProcess:
    path = directory / "checked.toml"
    path.write_text(text)
    return subprocess.run([BINARY, "config", "check", path], capture_output=True, text=True, timeout=10)


def test_config_check_names_line_and_nearest_key(tmp_path: Path) -> None:
    for text, words in [
        (
            "socket = '/x'\n\n[journal]\nsegmant_bytes = 4096\n",
            ':4: there is no key "segmant_bytes" here; did you mean "segm',
        ),
        (
            "[[access.rules]]\nuids = [1]\nlane_max = 4\n",
            ':3: there is no key "lane_max" here; did you mean "lanes_max"?',
        ),
        ("[journal]\nsegment_bytes = 5000\n", ":2: journal.segment_bytes: it must be"),
        ("[lanes]\nbytes_max = 'much'\n", ":2: "),
        ("[orders]\nthreads = 9\n", ":2: orders.threads: it must be 1 to 8"),
        ("[orders]\nparallel_batch_min = 0\n", ":2: orders.parallel_batch_min: it must be 1 to 4096"),
        ("[[access.rules]]\nusers = ['no-such-user-here']\n", ":2: access.rules.0.users: there is no user"),
        ('[access]\nsocket_mode = "999"\n', ":2: access.socket_mode: it must be three octal digits"),
    ]:
        done = check(text, tmp_path)
        assert (done.returncode, words in done.stderr) == (2, True), (text, done.stderr)
    done = check(RULES, tmp_path)
    assert done.returncode == 0
    assert "accepted (4 access rules)" in done.stdout


@needs_root
def test_users_and_groups_are_let_in_by_rules(start: Callable[..., Daemon]) -> None:
    daemon = start()

    def granted() -> list:
        with contextlib.closing(PlainClient(daemon.address)) as client:
            return client.open(64).reply["accounts"]

    assert as_user(TRADER, granted) == [10, 19]
    # A supplementary group counts; several ranges must be told apart.
    assert as_user(OTHER, granted, (77, GROUP))[1] == "NOT_PERMITTED"
    both = as_user(
        OTHER, lambda: PlainClient(daemon.address).open(64, accounts=[40, 49]).reply["accounts"], (77, GROUP)
    )
    assert both == [40, 49]
    refused = as_user(STRANGER, granted, (77,))
    assert refused[:2] == ["refused", "NOT_PERMITTED"], refused
    assert f"user {STRANGER} (groups [{STRANGER}, 77]) may not use this sidecar" in refused[2]
    nobody = as_user(65534, granted)
    assert nobody[0] in ("Disconnected", "refused"), nobody
    # With the words of the refusal in the log: uid and pid.
    assert f"uid={STRANGER} pid=" in daemon.words()
    until(lambda: daemon.status()["refused"] >= 2, what="the count")


@needs_root
def test_the_overflow_user_is_refused_even_where_everybody_may_come(start: Callable[..., Daemon]) -> None:
    daemon = start('[access]\nsocket_mode = "666"\n')
    assert as_user(STRANGER, lambda: PlainClient(daemon.address).info["ok"]) is True
    assert as_user(65534, lambda: PlainClient(daemon.address).info["ok"])[0] == "Disconnected"
    assert "uid 65534" in daemon.words()


@needs_root
def test_the_wheel_s_client_is_told_why_it_is_turned_away(start: Callable[..., Daemon]) -> None:
    import ringlane

    daemon = start()

    def connect() -> str:
        try:
            ringlane.connect(daemon.address)
        except ringlane.RinglaneError as error:
            return str(error)
        return "connected"

    for _ in range(20):  # whoever speaks first, the words arrive
        assert "may not use this sidecar" in as_user(STRANGER, connect)

    def speak() -> list[str]:
        return sorted({code(lambda: PlainClient(daemon.address)) for _ in range(2000)})

    assert as_user(STRANGER, speak) == ["NOT_PERMITTED"], "whoever speaks first, the words arrive"


@needs_root
def test_orders_for_accounts_of_others_are_refused_counted_and_told(start: Callable[..., Daemon]) -> None:
    daemon = start()
    mine = PlainClient(daemon.address)
    lane = mine.open(64, accounts=[30, 39])
    assert lane.process([new_order(30, 1, 1, 5)])[0]["code"] == 0

    def intrude() -> dict:
        theirs = PlainClient(daemon.address)
        its = theirs.open(256)
        foreign = [its.process([new_order(30, 100 + n, 1, 1)] * 100)[0]["code"] for n in range(20)]
        cancel = {"op": 2, "symbol": 1, "account": 30, "client_order_id": 1}
        codes = [its.process([{**cancel, **change}])[0]["code"] for change in ({}, {"account": 10})]
        replace = its.process([new_order(30, 1, 1, 5, op=4)])[0]["code"]
        take_over = its.process([{"op": 5, "symbol": 0, "account": 30}])[0]["code"]
        own = its.process([new_order(10, 1, 1, 1)])[0]["code"]
        asked = [code(lambda what=what: theirs.query(what, account=30)) for what in ("orders", "positions")]

        def refused() -> int:
            return next(row["not_permitted"] for row in daemon.status()["lanes"] if row["lane"] == its.number)

        until(lambda: refused() >= 2003, 10, "their count on the board")
        return {
            "foreign": sorted(set(foreign)),
            "codes": codes,
            "more": [replace, take_over, own],
            "asked": asked,
            "row": refused(),
            "wide": code(lambda: PlainClient(daemon.address).open(64, accounts=[10, 30])),
        }

    found = as_user(TRADER, intrude)
    assert found == {
        "foreign": [NOT_PERMITTED],
        "codes": [NOT_PERMITTED, UNKNOWN_ORDER_ID],
        "more": [NOT_PERMITTED, NOT_PERMITTED, 0],
        "asked": ["NOT_PERMITTED", "NOT_PERMITTED"],
        "row": 2003,
        "wide": "NOT_PERMITTED",
    }
    assert len(mine.query("orders", account=30)[1]) == 1, "the order was touched"
    until(lambda: daemon.status()["not_permitted"] == 2003 and daemon.status()["refused"] >= 3, what="the counts")
    lines = [line for line in daemon.words().splitlines() if "not granted the account" in line]
    assert 1 <= len(lines) <= 5, "one line a second, however many orders"
    assert f"uid={TRADER} pid=" in lines[0]
    mine.close()


@needs_root
def test_quotas_of_a_user(start: Callable[..., Daemon]) -> None:
    daemon = start()

    def clients() -> list:
        held = [PlainClient(daemon.address) for _ in range(3)]
        return [len(held), code(lambda: PlainClient(daemon.address))]

    def lanes() -> list:
        first, second, third = (PlainClient(daemon.address) for _ in range(3))
        deep = code(lambda: first.open(512))
        events = code(lambda: first.open(64, events=512))
        first.open(64)
        second.open(64)
        return [deep, events, code(lambda: third.open(64))]

    def is_over(refused: int) -> bool:
        # The board lags: it has seen them come when it knows of what they were refused.
        status = daemon.status()
        return status["refused"] >= refused and status["clients"] == 0 and not status["lanes"]

    assert as_user(TRADER, clients) == [3, "QUOTA"]
    until(lambda: is_over(1), what="their end")
    assert as_user(TRADER, lanes) == ["QUOTA", "QUOTA", "QUOTA"]
    until(lambda: is_over(4), what="their end")
    kernel = as_user(TRADER, lambda: PlainClient(daemon.address).open(64, kernel="echo"))
    assert kernel[1] in ("NOT_PERMITTED", "UNKNOWN_KERNEL")
    until(lambda: daemon.status()["refused"] == 5, what="the count of each refusal")
    told = [line for line in daemon.words().splitlines() if "refused: " in line]
    assert "clients_max" in told[0]
    assert all(f"uid={TRADER} pid=" in line for line in told)
    assert len(told) <= 5


@needs_root
def test_who_may_only_watch_sees_books_and_opens_nothing(start: Callable[..., Daemon]) -> None:
    daemon = start()

    def watch() -> list:
        client = PlainClient(daemon.address)
        seen = [
            client.query(what, **more)[0]["ok"]
            for what, more in (("instruments", {}), ("book", {"symbol": 1, "levels": 5}))
        ]
        return [*seen, code(lambda: client.open(64)), code(lambda: client.query("positions", account=1))]

    assert as_user(WATCHER, watch) == [True, True, "NOT_PERMITTED", "NOT_PERMITTED"]


def test_memory_is_charged_until_nobody_has_it(start: Callable[..., Daemon]) -> None:
    daemon = start("\n[lanes]\nbytes_max = 600000\n")
    client = PlainClient(daemon.address)
    fds = daemon.fds_settled()
    lane = client.open(2048)  # about 400 KB
    assert lane.process([new_order(1, 1, 1, 1)])[0]["code"] == 0
    lane.close()
    # Closed, but this process has its descriptors and mappings.
    assert code(lambda: client.open(2048)) == "QUOTA"
    requests, results = os.dup(lane.requests_fd), os.dup(lane.results_fd)
    client.lanes.remove(lane)
    lane.unmap()
    assert code(lambda: client.open(2048)) == "QUOTA", "a duplicate of a descriptor is enough"
    os.close(requests)
    assert code(lambda: client.open(2048)) == "QUOTA"
    os.close(results)
    again = soon(lambda: client.open(2048))
    assert again.process([new_order(1, 2, 1, 1)])[0]["code"] == 0
    again.close()
    again.unmap()
    client.lanes.clear()
    until(lambda: daemon.fds() == fds, what="the return of its descriptors")
    # Rows of answers count as well.
    held = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    with pytest.raises(Refused) as refused:
        while len(held) < 4000:
            held += client.ask(op="query", what="instruments")[1]
    assert refused.value.code == "QUOTA"
    assert len(held) == 2048
    for fd in held:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert soon(lambda: client.query("instruments"))[0]["ok"]
    client.close()


def test_memory_that_cannot_be_had_is_an_error_to_that_client(start: Callable[..., Daemon]) -> None:
    """By a limit of file sizes, under which reserving fails, and by one of address space, under which mapping does."""
    daemon = start("", journal=False)
    client, beside = PlainClient(daemon.address), PlainClient(daemon.address)
    lane = beside.open(64)
    fds = daemon.fds_settled()
    size = next(
        int(line.split()[1]) << 10
        for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
        if "VmSize" in line
    )
    for limit, bound in ((resource.RLIMIT_FSIZE, 1 << 20), (resource.RLIMIT_AS, size + (32 << 20))):
        before = resource.prlimit(daemon.process.pid, limit, (bound, resource.RLIM_INFINITY))
        assert code(lambda: client.open(1 << 20)) == "MEMORY"
        assert lane.process([new_order(1, bound, 1, 1)])[0]["code"] == 0
        client.open(64).close()
        client.lanes.pop().unmap()
        resource.prlimit(daemon.process.pid, limit, before)
    assert client.open(1 << 18).process([new_order(2, 1, 1, 1)])[0]["code"] == 0
    client.close()
    until(lambda: daemon.fds() <= fds, what="the return of its descriptors")
    beside.close()


def test_a_control_group_without_room_is_an_error_to_that_client(start: Callable[..., Daemon]) -> None:
    """The sidecar looks before it takes: a group that is full would be killed for the page too many."""
    root, name, procs = Path("/sys/fs/cgroup"), f"ringlane-test-{os.getpid()}", "cgroup.procs"
    group, limit = (
        (root / name, "memory.max")
        if (root / "cgroup.controllers").exists()
        else (root / "memory" / name, "memory.limit_in_bytes")
    )
    try:
        group.mkdir()
        (group / limit).write_text(str(150 << 20))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"needs a memory control group: {error}")
    try:
        daemon = start("", journal=False, before=lambda: (group / procs).write_text(str(os.getpid())))
        client, beside = PlainClient(daemon.address), PlainClient(daemon.address)
        assert code(lambda: client.open(1 << 20)) == "MEMORY"
        assert beside.open(1 << 10).process([new_order(1, 1, 1, 1)])[0]["code"] == 0
        assert "are free for the sidecar" in daemon.words()
        client.close()
        beside.close()
        assert daemon.stop() == 0
    finally:
        until(lambda: group.rmdir() is None, what="the end of the group") if group.exists() else None


@needs_root
def test_no_other_process_of_its_user_opens_its_descriptors(start: Callable[..., Daemon], directory: Path) -> None:
    """PR_SET_DUMPABLE=0: the same user could else take another client's lane out of /proc."""
    os.chown(directory, TRADER, TRADER)
    daemon = start("", before=lambda: (os.setgroups([]), os.setgid(TRADER), os.setuid(TRADER)))
    pid = daemon.process.pid
    assert as_user(TRADER, lambda: os.listdir(f"/proc/{pid}/fd"))[0] == "PermissionError"
    # Nor is it hindered itself: it hands out its memory through its own /proc.
    assert as_user(TRADER, lambda: PlainClient(daemon.address).open(64).reply["lane"]) > 0


@needs_root
def test_reload_is_all_or_nothing_and_says_what_changed(start: Callable[..., Daemon]) -> None:
    daemon = start()
    client = PlainClient(daemon.address)

    def may(uid: int) -> bool:
        return as_user(uid, lambda: PlainClient(daemon.address).info["ok"]) is True

    assert may(TRADER)
    assert not may(STRANGER)
    # A file that is wrong in its last line changes nothing, not even what is right in it.
    words = daemon.reload(RULES.replace(str(TRADER), str(STRANGER)) + "\n[lanes]\nbyte_max = 1\n")
    assert "the old one stays in force" in words
    assert 'did you mean "bytes_max"?' in words
    assert may(TRADER)
    assert not may(STRANGER)
    # The new file: one is out, one is in, and a trader that is connected goes, with its lane.
    reader, writer = os.pipe()
    trader = os.fork()
    if trader == 0:
        os.setgroups([])
        os.setgid(TRADER)
        os.setuid(TRADER)
        theirs = PlainClient(daemon.address)
        lane = theirs.open(64)
        os.write(writer, b"open")
        while lane.status == 0:
            time.sleep(0.001)
        os._exit(int(lane.status != 201))
    try:
        assert os.read(reader, 4) == b"open"
        words = daemon.reload(
            RULES.replace(str(TRADER), str(STRANGER)) + "\n[lanes]\nbytes_max = 1000000\n[sequencer]\nspin_us = 7\n"
        )
        assert os.waitstatus_to_exitcode(os.waitpid(trader, 0)[1]) == 0
    finally:
        os.close(reader)
        os.close(writer)
        with contextlib.suppress(ProcessLookupError):
            os.kill(trader, signal.SIGKILL)
    for expected in (
        "lanes.bytes_max from 4294967296 to 1000000",
        f"rule 2 is now {{uids = [{STRANGER}]",
        f"(uid {TRADER}, pid {trader}) disconnected: its access was withdrawn",
        "[sequencer] changed in the file too, which takes effect at the next start only",
    ):
        assert expected in words, words
    assert may(STRANGER)
    assert not may(TRADER)
    assert code(lambda: client.open(1 << 14)) == "QUOTA"
    assert "nothing has changed" not in words
    client.close()


def test_a_client_that_was_ended_meets_the_end_of_its_socket(start: Callable[..., Daemon]) -> None:
    daemon = start("")
    client = PlainClient(daemon.address)
    lane = client.open(64)
    daemon.reload(f"[[access.rules]]\nuids = [{os.geteuid() + 1}]\n")
    until(lambda: lane.status == 201, what="the lane's end")
    with pytest.raises(Disconnected):
        client.query("state")
    assert code(lambda: PlainClient(daemon.address)) == "NOT_PERMITTED"
    client.close()
