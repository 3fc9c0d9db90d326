"""The peer of `blake3_1MB`: the blake3 crate by its own Python binding, two threads, payloads where they stand."""

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import blake3
import numpy as np


def main(count: int, size: int, times: int) -> None:
    """Prints the median time of one digest, ns."""
    rng = np.random.default_rng(1)
    bodies = [rng.bytes(size) for _ in range(count)]
    halves = [bodies[::2], bodies[1::2]]
    samples = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(times + 1):
            start = time.perf_counter_ns()
            list(pool.map(lambda half: [blake3.blake3(body).digest() for body in half], halves))
            samples.append(time.perf_counter_ns() - start)
    print(json.dumps({"ns": statistics.median(samples[1:]) / count}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
