"""Vectors: rows made of length 1, and the exact best 10 of 100,000. The library on two threads, beside numpy and faiss."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.measure import Pairs, interleave
from bench.peers import peer_python
from bench.programs import program
from bench.row import Bench, Measured, row, times_faster

ROWS, DIM, K = 100_000, 384, 10
REPEATS = {1: 101, 32: 31, 256: 7}
"""Searches of which the median counts, by queries a search."""


def ours(task: str, **options: int) -> dict[str, Any]:
    """One figure of the library, without a lane."""
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return told([program("vectors"), task, "--threads", "2", *arguments])


def theirs(*arguments: object) -> dict[str, Any]:
    """The same of numpy and faiss, in an environment of their own."""
    script = Path(__file__).parents[1] / "peer_vectors.py"
    return told([peer_python(), script, *map(str, arguments)])


def told(command: list[Any]) -> dict[str, Any]:
    """What a program prints as JSON."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def search_pairs(bench: Bench, queries: int, peer: str) -> Pairs:
    """Times a search of ours and one of `peer`, ns."""
    rows, count = bench.scaled(ROWS, 2000), REPEATS[queries]
    return interleave(
        bench.pairs,
        lambda: float(ours("search", rows=rows, dim=DIM, queries=queries, k=K, count=count)["ns"]),
        lambda: float(theirs("search", rows, DIM, queries, K, count)[f"{peer}_ns"]),
        theirs_over_ours=True,
    )


def enter_search(queries: int, numpy_bar: tuple[float, float], faiss_bar: tuple[float, float]) -> None:
    """The two rows of one number of queries."""

    def versus(peer: str, reference: str) -> Callable[[Bench], Measured]:
        def measure(bench: Bench) -> Measured:
            return Measured.of(search_pairs(bench, queries, peer), reference)

        measure.__doc__ = f"""The exact best {K} of {ROWS:,} x {DIM} for {queries} queries: the library on two threads, no lane.

        Beside it {reference}, on both cores, over random rows of length 1 from its own generator.
        """
        return measure

    name = f"library_top10_{queries}q_100k_384"
    row(name, "ns", times_faster(*numpy_bar))(versus("numpy", "numpy matmul + argpartition"))
    row(f"{name}_vs_faiss", "ns", times_faster(*faiss_bar))(versus("faiss", "faiss IndexFlatIP"))


@row("library_normalize_5000x768", "ns", times_faster(1, 1.3))
def normalize(bench: Bench) -> Measured:
    """5,000 rows of 768 made of length 1 by the library on two threads, from one array into another; no lane.

    Beside it the best of numpy's einsum in place and faiss.normalize_L2, on both cores.
    """
    rows, count = bench.scaled(5000), 201

    def peers() -> float:
        figures = theirs("normalize", rows, 768, count)
        return float(min(figures["numpy_ns"], figures["faiss_ns"]))

    pairs = interleave(
        bench.pairs,
        lambda: float(ours("normalize", rows=rows, dim=768, count=count)["ns"]),
        peers,
        theirs_over_ours=True,
    )
    return Measured.of(pairs, "the best of numpy einsum in place and faiss.normalize_L2")


enter_search(1, (2, 3), (3, 5))
enter_search(32, (1.2, 2), (4, 8))
enter_search(256, (1, 1.5), (4, 8))
