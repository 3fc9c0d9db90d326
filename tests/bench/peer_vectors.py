"""numpy and faiss over the same sizes as our vector rows, with all cores that they may use.

Runs by itself in `.venv-bench`: `python peer_vectors.py normalize ROWS DIM COUNT` or `search DIRECTORY K COUNT`.
Prints one line of JSON: the median of COUNT runs of each, ns. Each is written the way its users are told to write it.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
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


def normalize(rows: int, dim: int, count: int) -> dict[str, float]:
    """In place, numpy by einsum and faiss by its own function."""
    values = np.random.default_rng(1).standard_normal((rows, dim), dtype=np.float32)

    def by_numpy() -> None:
        np.divide(values, np.sqrt(np.einsum("ij,ij->i", values, values))[:, None], out=values)

    return {"numpy_ns": median_ns(by_numpy, count), "faiss_ns": median_ns(lambda: faiss.normalize_L2(values), count)}


def search(directory: str, k: int, count: int) -> dict[str, Any]:
    """The best k of corpus.npy by inner product for queries.npy: matmul and argpartition, then the k in order; and
    faiss's exact index. Gives faiss's ids too."""
    corpus, asked = (np.load(Path(directory) / f"{name}.npy") for name in ("corpus", "queries"))

    def by_numpy() -> Any:
        scores = asked @ corpus.T
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        return np.take_along_axis(best, order, 1)

    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus)
    ids = index.search(asked, k)[1]
    assert (ids == by_numpy()).mean() > 0.99
    by_faiss = median_ns(lambda: index.search(asked, k), count)
    return {"numpy_ns": median_ns(by_numpy, count), "faiss_ns": by_faiss, "ids": ids.tolist()}


if __name__ == "__main__":
    task, *words = sys.argv[1:]
    figures = normalize(*map(int, words)) if task == "normalize" else search(words[0], *map(int, words[1:]))
    print(json.dumps(figures | {"numpy": np.__version__, "faiss": faiss.__version__}))
