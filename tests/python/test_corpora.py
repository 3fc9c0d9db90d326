"""Corpora through a sidecar: the published neighbours of real vectors, and exchanges under running searches."""

from __future__ import annotations

import gzip
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ringlane

ROOT = Path(__file__).resolve().parents[2]
SIFT = Path(os.environ.get("RINGLANE_VECTORS_DIR", ROOT.parent / "shared" / "data" / "vectors"))
SIFT_DIM = 128
PATIENCE_S = 60


def published(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids and distances of the published neighbours, a row a query; a heading stands before each query's lines."""
    words = [line.split() for line in path.read_text().splitlines()]
    lines = [line for line in words if len(line) == 3]
    queries = sum(line[:1] == ["Query"] for line in words)
    table = np.array(lines, dtype=np.float64).reshape(queries, -1, 3)
    return table[:, :, 1].astype(np.uint64), table[:, :, 2]


@pytest.mark.skipif(not (SIFT / "ngt-sift-dataset-5k.tsv.gz").exists(), reason=f"no vectors in {SIFT}")
def test_published_neighbours_of_sift_vectors_are_found_through_a_lane(tmp_path: Path) -> None:
    with gzip.open(SIFT / "ngt-sift-dataset-5k.tsv.gz") as lines:
        vectors = np.loadtxt(lines, dtype=np.float32)[:, :SIFT_DIM]
    queries = np.loadtxt(SIFT / "ngt-sift-query-3.tsv", dtype=np.float32)[:, :SIFT_DIM]
    ids, distances = published(SIFT / "ngt-readme-top20.txt")
    records = np.zeros(len(vectors), [("dim", "<i4"), ("vector", "<f4", (SIFT_DIM,))])
    records["dim"], records["vector"] = SIFT_DIM, vectors
    records.tofile(tmp_path / "sift.fvecs")
    np.save(tmp_path / "ids.npy", np.arange(1, len(vectors) + 1))
    config = {"vectors": {"corpus_directory": str(tmp_path)}}
    with ringlane.Sidecar(config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        client.corpora.load("sift", "sift.fvecs", metric="l2", ids="ids.npy", timeout=PATIENCE_S)
        with client.open("vectors", dim=SIFT_DIM, op="search", corpus="sift", k=ids.shape[1], timeout=60) as lane:
            found = lane.process(queries)
            right = (found.ids == ids) & (np.abs(np.sqrt(found.scores) - distances) < 1.01e-3)
            assert (int(right.sum()), right.size) == (60, 60)


def test_each_answer_is_wholly_of_the_old_or_of_the_new_corpus(tmp_path: Path, seed: int) -> None:
    """Searches from a client of their own run on while another client exchanges the corpus again and again."""
    random = np.random.default_rng(seed)
    queries = random.standard_normal((16, 48), dtype=np.float32)
    for number, name in enumerate(("old", "new")):
        np.save(tmp_path / f"{name}.npy", random.standard_normal((20_000, 48), dtype=np.float32))
        np.save(tmp_path / f"{name}-ids.npy", np.arange(20_000) + 1_000_000 * number)
    config = {"vectors": {"corpus_directory": str(tmp_path)}}
    with (
        ringlane.Sidecar(config=config) as sidecar,
        ringlane.connect(sidecar.address) as loader,
        ringlane.connect(sidecar.address) as searcher,
    ):

        def load(name: str) -> None:
            loader.corpora.load("moving", f"{name}.npy", ids=f"{name}-ids.npy", timeout=PATIENCE_S)

        answers, over = {}, threading.Event()
        load("old")
        with searcher.open("vectors", dim=48, op="search", corpus="moving", k=20, timeout=PATIENCE_S) as lane:
            for name in ("new", "old"):
                load(name)
                answers[name] = lane.process(queries, copy=True).ids
            assert not np.intersect1d(answers["old"], answers["new"]).size

            seen, changes, last = {"old": 0, "new": 0}, 0, "old"
            deadline = time.monotonic() + PATIENCE_S

            def exchange() -> None:
                try:
                    for turn in range(12):
                        name = "old" if turn % 2 else "new"
                        before = seen[name]
                        load(name)
                        while seen[name] == before and time.monotonic() < deadline:
                            time.sleep(0.001)
                finally:
                    over.set()

            thread = threading.Thread(target=exchange)
            thread.start()
            while not over.is_set() and time.monotonic() < deadline:
                ids = lane.process(queries).ids
                for query in range(len(queries)):
                    of = [name for name in answers if (ids[query] == answers[name][query]).all()]
                    assert len(of) == 1, f"query {query} found {ids[query]}, which is neither answer"
                    seen[of[0]] += 1
                    changes, last = changes + (of[0] != last), of[0]
            thread.join(PATIENCE_S)
        assert over.is_set()
        assert min(seen.values()) > 0
        assert changes == 12
        assert [(corpus.name, corpus.rows) for corpus in searcher.corpora.list()] == [("moving", 20_000)]
