"""numpy and faiss over the same sizes as our vector rows, with all cores that they may use.

Runs by itself in `.venv-bench`: `python peer_vectors.py normalize ROWS DIM COUNT` or `search ROWS DIM QUERIES K COUNT`.
Prints one line of JSON: the median of COUNT runs of each, ns. Each is written the way its users are told to write it.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np


def median_ns(call: Callable[[], Any], count: int) -> float:
    """Median time of a call, ns, after a first one that does not count."""
    call()
    samples = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return statistics.median(samples)


def unit_rows(seed: int, rows: int, dim: int) -> Any:
    """Random rows of length 1."""
    values = np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def normalize(rows: int, dim: int, count: int) -> dict[str, float]:
    """In place, numpy by einsum and faiss by its own function."""
    values = np.random.default_rng(1).standard_normal((rows, dim), dtype=np.float32)

    def by_numpy() -> None:
        np.divide(values, np.sqrt(np.einsum("ij,ij->i", values, values))[:, None], out=values)

    return {"numpy_ns": median_ns(by_numpy, count), "faiss_ns": median_ns(lambda: faiss.normalize_L2(values), count)}


def search(rows: int, dim: int, queries: int, k: int, count: int) -> dict[str, float]:
    """The best k by inner product: matmul and argpartition, then the k in order; and faiss's exact index."""
    corpus, asked = unit_rows(1, rows, dim), unit_rows(2, queries, dim)

    def by_numpy() -> Any:
        scores = asked @ corpus.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)

    index = faiss.IndexFlatIP(dim)
    index.add(corpus)
    assert (index.search(asked, k)[1] == by_numpy()).mean() > 0.99
    by_faiss = median_ns(lambda: index.search(asked, k), count)
    return {"numpy_ns": median_ns(by_numpy, count), "faiss_ns": by_faiss}


if __name__ == "__main__":
    task, *numbers = sys.argv[1:]
    figures = {"normalize": normalize, "search": search}[task](*map(int, numbers))
    print(json.dumps(figures | {"numpy": np.__version__, "faiss": faiss.__version__}))
