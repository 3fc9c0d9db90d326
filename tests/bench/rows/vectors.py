"""Vector lanes: rows made of length 1 and the exact best 10 of 100,000, beside numpy and faiss; and orders beside them."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ringlane

from bench.measure import interleave, percentile, sleep_until, steady, summary, time_each
from bench.peers import PROCESSES, peer_python
from bench.row import Bench, Measured, at_most_times, row, times_faster
from bench.sidecars import GTC, LIMIT, NEW, PRICE, TICK, code_index, fresh_ids, open_lane, sidecar

ROWS, DIM, K = 100_000, 384, 10
REPEATS = {1: 101, 32: 31, 256: 7}
"""Searches of which the median counts, by queries a search."""
ORDERS_A_SECOND = 1000


def theirs(*arguments: object) -> dict[str, Any]:
    """What numpy and faiss need, in an environment of their own, as JSON."""
    script = Path(__file__).parents[1] / "peer_vectors.py"
    command = [peer_python(), script, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def unit_rows(seed: int, rows: int) -> np.ndarray[Any, Any]:
    """Random rows of length 1."""
    values = np.random.default_rng(seed).standard_normal((rows, DIM), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@contextmanager
def stored(bench: Bench, queries: int) -> Iterator[tuple[Path, np.ndarray[Any, Any]]]:
    """A directory with the corpus and the queries that both sides take, and the queries."""
    bench.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="corpus-", dir=bench.scratch) as name:
        directory, asked = Path(name), unit_rows(2, queries)
        np.save(directory / "corpus.npy", unit_rows(1, bench.scaled(ROWS, 2000)))
        np.save(directory / "queries.npy", asked)
        yield directory, asked


def settings(directory: Path) -> dict[str, Any]:
    """The sidecar's `[vectors]`."""
    return {"corpus_directory": str(directory)}


@contextmanager
def search_lane(address: str, depth: int) -> Iterator[Any]:
    """A lane on the corpus, which must be loaded."""
    with (
        ringlane.connect(address) as client,
        client.open("vectors", depth, dim=DIM, op="search", corpus="corpus", k=K) as lane,
    ):
        yield lane


def measure_search(bench: Bench, queries: int, peer: str, reference: str) -> Measured:
    """Medians of searches through a lane and of the peer's, over the same files; the answers must be the same."""
    count = REPEATS[queries]
    with (
        stored(bench, queries) as (directory, asked),
        ringlane.Sidecar(config={"vectors": settings(directory)}) as ours,
        ringlane.connect(ours.address) as client,
    ):
        client.corpora.load("corpus", "corpus.npy", metric="ip", timeout=120)
        with search_lane(ours.address, 1024) as lane:

            def search() -> Any:
                return lane.process(asked).ids

            answer = search().copy()

            def median() -> float:
                return statistics.median(time_each(search, count))

            def their_median() -> float:
                figures = theirs("search", directory, K, count)
                same = float((np.array(figures["ids"], np.uint64) == answer).mean())
                # Equal but for rounding of the peers' own sums, which may change neighbours that are nearly as near.
                assert same > 0.99, f"only {same:.4f} of the answers agree"
                return float(figures[f"{peer}_ns"])

            pairs = interleave(bench.pairs, median, their_median, theirs_over_ours=True)
    return Measured.of(pairs, reference, queries=queries, k=K, dim=DIM)


def enter_search(queries: int, numpy_bar: tuple[float, float], faiss_bar: tuple[float, float]) -> None:
    """The two rows of one number of queries."""

    def versus(peer: str, reference: str) -> Callable[[Bench], Measured]:
        def measure(bench: Bench) -> Measured:
            return measure_search(bench, queries, peer, reference)

        measure.__doc__ = f"""The exact best {K} of {ROWS:,} x {DIM} for {queries} queries at once, through a lane.

        Timed from plain arrays to ids and scores, on an unpinned sidecar; beside it {reference} in its own process, over
        the same file and queries, on both cores. Answers are compared.
        """
        return measure

    name = f"top10_{queries}q_100k_384"
    row(name, "ns", times_faster(*numpy_bar))(versus("numpy", "numpy matmul + argpartition"))
    row(f"{name}_vs_faiss", "ns", times_faster(*faiss_bar))(versus("faiss", "faiss IndexFlatIP"))


def time_normalize(lane: Any, values: np.ndarray[Any, Any]) -> int:
    """From data in the lane's view to results that are visible, ns."""
    reservation = lane.reserve(len(values))
    with reservation as rows:
        rows[:] = values
        start = time.perf_counter_ns()
    reservation.ticket.result()
    return time.perf_counter_ns() - start


@row("normalize_5000x768", "ns", times_faster(1, 1.3))
def normalize(bench: Bench) -> Measured:
    """5,000 rows of 768 made of length 1: from the data being in the lane's view to the results being visible.

    Both sides find their rows where a model would have left them. Beside it the best of numpy's einsum in place and
    faiss.normalize_L2, on both cores. The sidecar is not pinned, so that it too may use both.
    """
    rows, count = bench.scaled(5000), 101
    values = np.random.default_rng(1).standard_normal((rows, 768), dtype=np.float32)

    def peers() -> float:
        figures = theirs("normalize", rows, 768, count)
        return float(min(figures["numpy_ns"], figures["faiss_ns"]))

    with (
        ringlane.Sidecar() as ours,
        ringlane.connect(ours.address) as client,
        client.open("vectors", 8192, dim=768, op="normalize") as lane,
    ):
        for _ in range(5):
            time_normalize(lane, values)
        pairs = interleave(
            bench.pairs,
            lambda: statistics.median(time_normalize(lane, values) for _ in range(count)),
            peers,
            theirs_over_ours=True,
        )
    return Measured.of(pairs, "the best of numpy einsum in place and faiss.normalize_L2")


enter_search(1, (2, 3), (3, 5))
enter_search(32, (1.2, 2), (4, 8))
enter_search(256, (1, 1.5), (4, 8))


@row("crossover_normalize", "rows")
def crossover(bench: Bench) -> Measured:
    """The smallest batch of rows of 768 from which on a lane beats numpy's einsum in place, in this process; no bar.

    Data in the lane's view to results visible, beside rows in an array of the process's own to the same rows at length 1.
    The details have both sides' medians for each size. 0 where no batch up to 8,192 rows is faster.
    """
    sizes, medians = [1 << power for power in range(14)], {}
    with (
        ringlane.Sidecar() as ours,
        ringlane.connect(ours.address) as client,
        client.open("vectors", 8192, dim=768, op="normalize") as lane,
    ):
        for size in sizes:
            values = np.random.default_rng(1).standard_normal((size, 768), dtype=np.float32)
            own = values.copy()
            count = max(7, bench.scaled(min(501, 500_000 // size)))

            def by_numpy(own: np.ndarray[Any, Any] = own) -> None:
                np.divide(own, np.sqrt(np.einsum("ij,ij->i", own, own))[:, None], out=own)

            pairs = interleave(
                bench.pairs,
                lambda values=values, count=count: statistics.median(
                    time_normalize(lane, values) for _ in range(count)
                ),
                lambda by_numpy=by_numpy, count=count: statistics.median(time_each(by_numpy, count)),
                theirs_over_ours=True,
            )
            medians[size] = {"ns": pairs.value, "numpy_ns": pairs.reference_value, "ratio": pairs.ratio}
    slower = [size for size in sizes if medians[size]["ratio"] <= 1]
    beats = [size for size in sizes if not slower or size > slower[-1]]
    return Measured(float(beats[0]) if beats else 0.0, details={"sizes": medians})


def searcher(address: str, queries: np.ndarray[Any, Any], commands: Any) -> None:
    """A process that searches back to back for as many seconds as it is told; answers with searches a second."""
    with search_lane(address, 1024) as lane:
        lane.process(queries)
        commands.send(0.0)
        while seconds := commands.recv():
            start, done = time.perf_counter_ns(), 0
            while time.perf_counter_ns() - start < seconds * 1e9:
                lane.process(queries)
                done += 1
            commands.send(done * 1e9 / (time.perf_counter_ns() - start))


def time_orders(lane: Any, seconds: float) -> list[int]:
    """Single orders by the clock from a client that sleeps between them; the time of each, ns."""
    count, call, clock = int(seconds * ORDERS_A_SECOND), lane.call, time.perf_counter_ns
    first, at, begin, samples, codes = fresh_ids(), code_index(lane), clock(), [], set()
    for index in range(count):
        sleep_until(begin + index * 1_000_000_000 // ORDERS_A_SECOND)
        price = PRICE + TICK * (index // 2 % 16)
        start = clock()
        result = call(NEW, 1 + index % 2, LIMIT, GTC, 1, 1, 0, first + index, price, 100)
        samples.append(clock() - start)
        codes.add(result[at])
    assert codes == {0}, f"orders were rejected: {codes}"
    return samples


@contextmanager
def beside_searches(bench: Bench) -> Iterator[tuple[Any, Callable[[float], None], Callable[[], float]]]:
    """An order lane, what starts searches of 32 queries in another process for some seconds, and what gives their rate."""
    with (
        stored(bench, 32) as (directory, asked),
        sidecar(bench, vectors=settings(directory)) as ours,
        ringlane.connect(ours.address) as client,
    ):
        client.corpora.load("corpus", "corpus.npy", metric="ip", timeout=120)
        here, there = PROCESSES.Pipe()
        process = PROCESSES.Process(target=searcher, args=(ours.address, asked, there), daemon=True)
        process.start()
        try:
            here.recv()
            with open_lane(ours.address) as lane, steady(bench.client_cpu):
                time_orders(lane, 0.2)
                yield lane, here.send, here.recv
            here.send(0)
        finally:
            process.join(5)
            process.terminate()
            process.join()


@row("orders_beside_vectors", "ns", at_most_times(5, 2))
def orders_beside(bench: Bench) -> Measured:
    """p99 of single orders at 1,000/s from a client that sleeps between them, while searches run back to back.

    Beside it the same without searches. Each search has 32 queries over 100,000 rows and comes from another process.
    """
    seconds, percentiles, rates = bench.seconds(4), [], []
    with beside_searches(bench) as (lane, start, rate):

        def both() -> float:
            start(seconds + 0.5)
            time.sleep(0.25)
            samples = time_orders(lane, seconds)
            percentiles.append(summary(samples))
            rates.append(rate())
            return percentile(samples, 0.99)

        pairs = interleave(bench.pairs, both, lambda: percentile(time_orders(lane, seconds), 0.99))
    return Measured.of(pairs, "the same without searches", percentiles=percentiles, searches_a_second=rates)


@row("orders_beside_vectors_searches", "1/s", times_faster(0.5, 0.8))
def searches_beside(bench: Bench) -> Measured:
    """Searches a second while orders come at 1,000/s, beside the same searches alone: what the orders cost them."""
    seconds = bench.seconds(3)
    with beside_searches(bench) as (lane, start, rate):

        def both() -> float:
            start(seconds)
            time_orders(lane, seconds)
            return rate()

        def alone() -> float:
            start(seconds)
            return rate()

        pairs = interleave(bench.pairs, both, alone)
    return Measured.of(pairs, "the same searches alone")
