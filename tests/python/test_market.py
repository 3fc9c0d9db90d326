"""Market data: a reader's own books against the sidecar's, gaps, two readers, one that is stopped, rights, and a new life."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import ringlane
from daemon import Daemon
from ringlane import MarketKind, Op, OrderType, Side, TimeInForce

RING = 1024
CONFIG = f"[market_data]\nrecords = {RING}\n"
SYMBOLS = 4
EVERYBODY = '[access]\nsocket_mode = "666"\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path, config=CONFIG).ready()
    yield running
    running.stop()


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Daemon]:
    """A ring of which nothing is overwritten in a short test."""
    running = Daemon(tmp_path, config=f"[market_data]\nrecords = {32 * RING}\n").ready()
    yield running
    running.stop()


class Trader:
    """Orders of every type around one price, from a seed."""

    def __init__(self, client: ringlane.Client, seed: int) -> None:
        self.lane = client.open("orders", depth=1024, events=1024)
        self.random = random.Random(seed)
        self.ids = 0

    def some(self, count: int) -> np.ndarray:
        """A batch of requests, some of them wrong; gives its results."""
        choose = self.random
        batch = np.zeros(count, self.lane.request_dtype)
        for request in batch:
            kind = choose.random()
            request["symbol"] = choose.randint(1, SYMBOLS)
            request["account"] = choose.randint(1, 5)
            request["side"] = choose.randint(1, 2)
            request["price"] = 1_000_000 + 100 * choose.randint(-6, 6)
            request["quantity"] = choose.randint(1, 9)
            request["client_order_id"] = choose.randint(1, max(self.ids, 1))
            if kind < 0.7:
                self.ids += 1
                request["op"], request["client_order_id"] = Op.NEW, self.ids
                request["order_type"], request["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
                if kind < 0.06:
                    request["order_type"], request["time_in_force"], request["price"] = (
                        OrderType.MARKET,
                        TimeInForce.IOC,
                        0,
                    )
                elif kind < 0.12:
                    request["display_quantity"] = choose.randint(1, 3)
                elif kind < 0.2:
                    request["order_type"] = OrderType.STOP_LIMIT
                    request["stop_price"] = 1_000_000 + 100 * choose.randint(-4, 4)
            elif kind < 0.99:
                request["op"] = choose.choice([Op.CANCEL, Op.REDUCE, Op.REPLACE])
            else:
                request["op"] = Op.CANCEL_ALL
                request["symbol"], request["account"] = choose.choice([(0, 3), (2, 0)])
                for name in ("side", "price", "quantity", "client_order_id"):
                    request[name] = 0
        results = self.lane.process(batch, copy=True)
        self.lane.events()
        return results


def levels(rows: np.ndarray) -> list[tuple[int, int, int]]:
    return [(int(row["price"]), int(row["quantity"]), int(row["order_count"])) for row in rows]


def same_books(client: ringlane.Client, feed: ringlane.MarketFeed, symbols: range = range(1, SYMBOLS + 1)) -> int:
    """Compares every book with what the sidecar says now; gives how many levels there are."""
    count = 0
    for symbol in symbols:
        ours, theirs = feed.book(symbol), client.book(symbol, feed.levels)
        for side in ("bids", "asks"):
            assert levels(getattr(ours, side)) == levels(getattr(theirs, side)), (symbol, side)
            count += len(getattr(ours, side))
    return count


def drain(feed: ringlane.MarketFeed, most: int = 65_536) -> np.ndarray:
    parts = [feed.read(most)]
    while len(parts[-1]):
        parts.append(feed.read(most))
    return np.concatenate(parts)


class NaiveBooks:
    """The naive twin: applies records one by one as their words say."""

    def __init__(self) -> None:
        self.levels: dict[int, dict[tuple[int, int], tuple[int, int]]] = {}
        self.top: dict[int, tuple[int, int, int, int]] = {}

    def apply(self, records: np.ndarray) -> None:
        for row in records:
            symbol, kind = int(row["symbol"]), MarketKind(int(row["kind"]))
            book = self.levels.setdefault(symbol, {})
            if kind == MarketKind.CLEAR:
                book.clear()
            elif kind == MarketKind.LEVEL:
                book.pop((int(row["side"]), int(row["price"])), None)
                if row["order_count"]:
                    book[int(row["side"]), int(row["price"])] = int(row["quantity"]), int(row["order_count"])
            elif kind == MarketKind.TOP:
                self.top[symbol] = tuple(int(row[n]) for n in ("price", "quantity", "ask_price", "ask_quantity"))
                bids = [(price, has[0]) for (side, price), has in book.items() if side == Side.BUY]
                asks = [(price, has[0]) for (side, price), has in book.items() if side == Side.SELL]
                assert self.top[symbol] == (max(bids, default=(0, 0)) + min(asks, default=(0, 0)))


def test_books_of_a_reader_are_those_of_the_sidecar(daemon: Daemon, seed: int) -> None:
    with ringlane.connect(daemon.address) as client:
        trader = Trader(client, seed)
        trader.some(200)  # a book before anybody reads
        feed, naive = client.market_data(levels=1000), NaiveBooks()
        trades, started = 0, client.state().trades
        last = feed.number
        for _ in range(60):
            trader.some(trader.random.choice([1, 7, 60, 300]))
            records = drain(feed, trader.random.choice([1, 50, 65_536]))
            naive.apply(records)
            stream = records[records["number"] > last]["number"].tolist()
            assert stream == list(range(last + 1, feed.number + 1)), "numbers go up by one"
            last = feed.number
            trades += int((records["kind"] == MarketKind.TRADE).sum())
            assert same_books(client, feed) > 0
            assert feed.sequence <= client.book(1).sequence
            for symbol, book in naive.levels.items():
                bids = [(p, *has) for (side, p), has in sorted(book.items(), reverse=True) if side == Side.BUY]
                assert bids == levels(client.book(symbol, 1000).bids)
        assert feed.gaps == 0
        assert trades == client.state().trades - started > 100


def test_books_are_right_however_much_is_read_at_once(roomy: Daemon, seed: int) -> None:
    """Thousands of levels in one read, most of them told many times; another reader gets the same piece by piece."""
    draw = np.random.default_rng(seed)
    with ringlane.connect(roomy.address) as client:
        feeds = [client.market_data(range(1, 9), levels=1000) for _ in range(2)]
        firsts = [feed.read() for feed in feeds]
        assert all(len(first) == 16 for first in firsts), "eight empty books: each a CLEAR and a TOP"
        # Where many levels share a slot, the last record of each is still kept.
        keys = draw.integers(0, 1 << 54, 30_000, dtype=np.uint64)[draw.integers(0, 30_000, 100_000)]
        kept = feeds[0]._latest(keys)
        assert (np.diff(kept) > 0).all()
        assert dict(zip(keys[kept].tolist(), kept.tolist(), strict=True)) == {
            key: place for place, key in enumerate(keys.tolist())
        }
        lane = client.open("orders", depth=4096)
        for round_number in range(3):
            count, told = 2000, feeds[0].number
            new = np.zeros(count, lane.request_dtype)
            new["op"], new["order_type"], new["time_in_force"] = Op.NEW, OrderType.LIMIT, TimeInForce.GTC
            new["symbol"], new["side"] = draw.integers(1, 9, count), draw.integers(1, 3, count)
            away = 100 * draw.integers(1, 40, count)
            new["price"] = 1_000_000 + np.where(new["side"] == Side.BUY, -away, away)
            new["client_order_id"] = np.arange(count) + 1 + round_number * count
            new["account"], new["quantity"] = draw.integers(1, 5, count), 10
            cancel = new[draw.permutation(count)[: count * 3 // 4]].copy()
            cancel["op"] = Op.CANCEL
            for requests in (new, cancel):
                for piece in np.array_split(requests, 20):
                    assert not lane.process(piece, copy=True)["code"].any()
            whole = feeds[0].read(1 << 16)
            assert (whole["kind"] == MarketKind.LEVEL).sum() > 2000, "it comes all at once"
            pieces = [feeds[1].read(97)]
            while feeds[1].number < feeds[0].number:
                pieces.append(feeds[1].read(97))
            assert whole["number"].tolist() == np.concatenate(pieces)["number"].tolist()
            assert feeds[0].number > told
            assert same_books(client, feeds[0], range(1, 9)) == same_books(client, feeds[1], range(1, 9)) > 200


def test_trades_say_price_quantity_and_who_took(daemon: Daemon) -> None:
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=64)
        feed = client.market_data("AAPL")
        feed.read()
        asks = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=[1, 2], price=["10", "11"], quantity=5)
        lane.process(asks, copy=True)
        # What nobody owns trades too, and is told.
        lane.close()
        lane = client.open("orders", depth=64)
        buy = lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=3, price="11", quantity=8)
        sequence = int(lane.process(buy, copy=True)["sequence"][0])
        records = drain(feed)
        trades = records[records["kind"] == MarketKind.TRADE]
        assert trades[["price", "quantity", "side", "sequence", "k"]].tolist() == [
            (100_000, 5, Side.BUY, sequence, 0),
            (110_000, 3, Side.BUY, sequence, 1),
        ]
        last = records[-1]
        assert (last["kind"], last["ends_batch"]) == (MarketKind.TOP, 1)
        assert last[["price", "quantity", "ask_price", "ask_quantity"]].tolist() == (0, 0, 110_000, 2)
        # A lane that cancels with its end, and an administrator, change books without a request.
        other = ringlane.connect(daemon.address)
        bid = other.open("orders", depth=64, cancel_on_disconnect=True)
        bid.process(
            bid.batch(symbol="AAPL", side="BUY", account=3, client_order_id=1, price="9", quantity=1), copy=True
        )
        assert levels(drain(feed))
        assert levels(feed.book("AAPL").bids) == [(90_000, 1, 1)]
        other.close()
        feed.read(timeout=10)
        assert same_books(client, feed, range(1, 2)) == 1
        client.admin.cancel_all(symbol=client.symbols["AAPL"])
        assert levels(feed.read(timeout=10))
        assert same_books(client, feed, range(1, 2)) == 0


def test_a_slow_reader_hears_of_its_gap_by_number_and_resynchronises(daemon: Daemon, seed: int) -> None:
    with ringlane.connect(daemon.address) as client:
        feed, told_only = client.market_data(), client.market_data(resync=False)
        first = [drain(feed), drain(told_only)]
        assert len(first[0]) == len(first[1])
        number = feed.number
        trader = Trader(client, seed)
        while client.market_data([1]).number < number + 2 * RING:
            trader.some(300)
        records = feed.read()
        gap = records[0]
        assert MarketKind(gap["kind"]) == MarketKind.GAP
        assert gap["sequence"] == number + 1
        assert gap["number"] == feed.number >= number + 2 * RING
        assert (feed.gaps, feed.missed) == (1, feed.number - number)
        assert same_books(client, feed) > 0
        trader.some(20)
        after = drain(feed)
        assert after["number"][0] == gap["number"] + 1
        same_books(client, feed)
        # The other one was asked only to tell.
        records = told_only.read()
        assert records[["kind", "sequence"]].tolist() == [(MarketKind.GAP, number + 1)]
        with pytest.raises(ringlane.RinglaneError, match="are missing"):
            told_only.book(1)
        assert len(told_only.snapshot())
        same_books(client, told_only)


def test_two_readers_of_different_symbols(daemon: Daemon, seed: int) -> None:
    with ringlane.connect(daemon.address) as client, ringlane.connect(daemon.address) as second:
        one, two = client.market_data([2]), second.market_data([1, 3])
        trader = Trader(client, seed)
        for _ in range(20):
            trader.some(40)
            assert set(drain(one)["symbol"].tolist()) <= {2}
            assert set(drain(two)["symbol"].tolist()) <= {1, 3}
        same_books(client, one, range(2, 3))
        same_books(client, two, range(1, 2))
        same_books(client, two, range(3, 4))
        with pytest.raises(KeyError):
            one.book(1)
        with pytest.raises(ValueError, match="no symbol 60000"):
            client.market_data([60_000])
        # Nobody watched symbol 4, so nothing of it was told: a snapshot begins it.
        three = client.market_data([4])
        same_books(client, three, range(4, 5))
        # Of all symbols, those that come later too.
        everything = client.market_data()
        number = client.admin.add_instrument("LATER")
        trader.lane.call(Op.NEW, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, number, 1, 0, 1, 500, 1)
        drain(everything)
        assert len(everything.book(number).bids) == 1


def test_a_stopped_reader_holds_nobody_up(daemon: Daemon, seed: int) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with ringlane.connect(daemon.address) as client:
            feed = client.market_data()
            feed.read()
            os.write(told, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
            records = feed.read(timeout=10)
            same = same_books(client, feed) > 0
            is_gap = records[0]["kind"] == MarketKind.GAP
            os._exit(0 if same and is_gap and feed.gaps == 1 else 1)
    try:
        assert os.read(ready, 1) == b"x"
        os.waitpid(child, os.WUNTRACED)
        with ringlane.connect(daemon.address) as client:
            trader, feed = Trader(client, seed), client.market_data()
            for _ in range(40):  # several rings full: nothing waits for the reader that is stopped
                trader.some(300)
                drain(feed)
            assert feed.number > 2 * RING
            same_books(client, feed)
            os.kill(child, signal.SIGCONT)
            assert os.waitpid(child, 0)[1] == 0
            child = 0
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_iterators_wait_and_end(daemon: Daemon) -> None:
    with ringlane.connect(daemon.address) as client:
        lane, feed = client.open("orders", depth=64), client.market_data(["AAPL"], poll_interval=0.0005)

        def trade_soon(number: int) -> threading.Thread:
            def trade() -> None:
                time.sleep(0.05)
                bid = lane.batch(symbol="AAPL", side="BUY", account=1, client_order_id=number, price="9", quantity=1)
                lane.process(bid, copy=True)

            thread = threading.Thread(target=trade)
            thread.start()
            return thread

        batches = iter(feed)
        assert next(batches)["kind"][0] == MarketKind.CLEAR
        thread = trade_soon(1)
        assert next(batches)["kind"][0] == MarketKind.LEVEL
        thread.join()
        assert len(feed.read()) == 0

        async def follow() -> int:
            thread = trade_soon(2)
            async for records in feed:
                thread.join()
                return int(records["quantity"][0])
            return 0

        assert asyncio.run(follow()) == 2
        feed.close()
        assert list(feed) == []
        with pytest.raises(ringlane.RinglaneError, match="closed"):
            feed.read()


def test_a_killed_sidecar_begins_another_epoch(tmp_path: Path, seed: int) -> None:
    daemon = Daemon(tmp_path, config=CONFIG).ready()
    client = ringlane.connect(daemon.address, reconnect_timeout=0)
    trader, feed = Trader(client, seed), client.market_data()
    trader.some(300)
    before = NaiveBooks()
    daemon.kill()
    # What was told stays readable, then the end is told.
    before.apply(drain_until_lost(feed))
    daemon = Daemon(tmp_path, config=CONFIG).ready()
    with ringlane.connect(daemon.address) as again:
        after = again.market_data()
        assert after.epoch > feed.epoch
        assert after.number == 0 < feed.number
        naive = NaiveBooks()
        naive.apply(after.read())
        assert {s: book for s, book in naive.levels.items() if book} == {s: b for s, b in before.levels.items() if b}
        same_books(again, after)
        trader = Trader(again, seed + 1)
        trader.some(100)
        assert drain(after)["number"][0] == 1
        same_books(again, after)
    client.close()
    daemon.stop()


@pytest.mark.parametrize("resync", [True, False])
def test_a_feed_follows_its_client_to_a_sidecar_that_was_started_anew(tmp_path: Path, seed: int, resync: bool) -> None:
    daemon = Daemon(tmp_path, config=CONFIG).ready()
    with ringlane.connect(daemon.address) as watcher, ringlane.connect(daemon.address) as client:
        trader, feed = Trader(client, seed), watcher.market_data(resync=resync)
        naive = NaiveBooks()
        naive.apply(feed.read())
        for _ in range(2):  # twice, because the second time it is another connection that is lost
            trader.some(200)
            told = int(client.state().sequence)
            daemon.kill()
            daemon = Daemon(tmp_path, config=CONFIG).ready()
            records = feed.read(timeout=10)
            while MarketKind.GAP not in records["kind"]:
                naive.apply(records)  # what the old ring had
                number, sequence, epoch = feed.number, feed.sequence, feed.epoch
                records = feed.read(timeout=10)
            gap = records[0]
            assert (MarketKind(gap["kind"]), gap["sequence"], gap["number"]) == (MarketKind.GAP, number + 1, 0)
            assert feed.epoch > epoch
            assert sequence <= told
            if resync:
                assert MarketKind(records["kind"][1]) == MarketKind.CLEAR
                naive.apply(records[1:])
            else:
                assert len(records) == 1
                with pytest.raises(ringlane.RinglaneError, match="are missing"):
                    feed.book(1)
                naive.apply(feed.snapshot())
            trader.some(50)
            more = drain(feed)
            assert more["number"][0] == 1, "numbers begin anew"
            naive.apply(more)
            assert same_books(client, feed) > 0
            for symbol in range(1, SYMBOLS + 1):
                book = client.book(symbol, 1000)
                held = {(int(r["side"]), int(r["price"])) for side in (book.bids, book.asks) for r in side}
                assert held == set(naive.levels[symbol])
        assert feed.gaps == 2
    daemon.stop()


def test_a_feed_that_only_polls_hears_that_no_sidecar_comes(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config=CONFIG).ready()
    with ringlane.connect(daemon.address, reconnect_timeout=0.3) as client:
        feed = client.market_data()
        assert len(drain(feed))
        daemon.kill()
        began = time.monotonic()
        with pytest.raises(ringlane.SidecarLost, match="epoch"):
            while time.monotonic() - began < 10:
                assert len(feed.read()) == 0
                time.sleep(0.01)
    daemon.stop()


def test_a_feed_without_books_reads_the_same_and_says_so(roomy: Daemon, seed: int) -> None:
    with ringlane.connect(roomy.address) as client:
        bare, whole, naive = client.market_data(levels=0), client.market_data(levels=1000), NaiveBooks()
        Trader(client, seed).some(500)
        records = drain(bare)
        naive.apply(records)
        assert records.tobytes() == drain(whole).tobytes()
        for symbol in range(1, SYMBOLS + 1):
            book = whole.book(symbol)
            assert {(int(r["side"]), int(r["price"])) for side in (book.bids, book.asks) for r in side} == set(
                naive.levels[symbol]
            )
        with pytest.raises(ringlane.RinglaneError, match="keeps no books"):
            bare.book(1)
        with pytest.raises(ValueError, match="or 0 to keep no books"):
            client.market_data(levels=-1)


def test_snapshots_are_paid_from_the_share_of_their_user(tmp_path: Path) -> None:
    """Who asks for large books without a pause waits for its answers, so that the sequencer keeps its time for orders."""
    daemon = Daemon(tmp_path, config=CONFIG).ready()
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=4096)
        count = 40_000
        for first in range(1, count, 4000):
            ids = np.arange(first, first + 4000)
            batch = lane.batch(symbol=1, side=1, account=1, client_order_id=ids, price=ids * 100, quantity=1)
            assert not lane.process(batch, copy=True)["code"].any()

        def ask() -> int:
            reply, files = client._control.request(op="market_data", symbols=[1])
            for file in files:
                os.close(file)
            return int(reply["rows"])

        assert ask() == count + 2
        for _ in range(40):  # beyond what may run ahead of the share
            ask()
        began, before, asked = time.monotonic(), sequencer_seconds(daemon), 0
        while time.monotonic() - began < 2:
            asked += ask() // count
        share = (sequencer_seconds(daemon) - before) / (time.monotonic() - began)
        assert asked > 5
        assert share < 0.2, f"{asked} snapshots took {share:.0%} of the sequencer's time"
    daemon.stop()


def sequencer_seconds(daemon: Daemon) -> float:
    """Processor time of the sidecar's first thread, which is the sequencer."""
    nanoseconds = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/schedstat").read_text().split()[0]
    return int(nanoseconds) / 1e9


def drain_until_lost(feed: ringlane.MarketFeed) -> np.ndarray:
    parts = []
    with pytest.raises(ringlane.SidecarLost, match="epoch"):
        while True:
            parts.append(feed.read(timeout=10))
    return np.concatenate(parts)


def test_nobody_can_write_the_ring(daemon: Daemon) -> None:
    import fcntl
    import mmap

    with ringlane.connect(daemon.address) as client:
        reply, files = client._control.request(op="market_data", symbols=[1])
        size = reply["ring_bytes"]
        for file in (files[0], os.open(f"/proc/self/fd/{files[0]}", os.O_RDONLY)):
            with pytest.raises(PermissionError):
                mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            assert fcntl.fcntl(file, 1034) & 0b10111 == 0b10111
            os.close(file)
        os.close(files[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")
def test_rules_say_who_may_read() -> None:
    watcher, stranger = 4245, 4246
    rules = (
        f"{EVERYBODY}[[access.rules]]\nuids = [{watcher}]\nwatch_only = true\n[[access.rules]]\nmarket_data = false\n"
    )
    directory = Path(tempfile.mkdtemp(prefix="ringlane-market-"))
    directory.chmod(0o711)
    daemon = Daemon(directory, config=CONFIG + rules)
    try:
        daemon.ready()

        def kinds() -> bool:
            with ringlane.connect(daemon.address) as client:
                return len(client.market_data([1]).read()) == 2

        assert as_user(watcher, kinds) == "True"
        assert "may not read market data" in as_user(stranger, kinds)
    finally:
        daemon.stop()
        shutil.rmtree(directory)


def as_user(uid: int, do: Callable[[], object]) -> str:
    """What `do` returns, or says when it raises, in a process of that user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                answer = str(do())
            except Exception as error:  # what went wrong is the answer
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer
