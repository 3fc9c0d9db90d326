"""Vector lanes against numpy, and corpora: loaded from one directory only, shared, exchanged, dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ringlane


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture(scope="module")
def vectors(directory: Path) -> Iterator[ringlane.Client]:
    config = {"vectors": {"corpus_directory": str(directory), "corpus_bytes_max": 64 << 20}}
    with ringlane.Sidecar(config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        yield client


def rows(seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 16, 100, 384])
def test_normalising(vectors: ringlane.Client, seed: int, dim: int) -> None:
    batch = rows(seed, 300, dim)
    batch[7] = 0
    batch[8, 0] = np.nan
    batch[9, 0] = np.inf
    with vectors.open("vectors", dim=dim, op="normalize", depth=512, timeout=60) as lane:
        ticket = lane.submit(batch)
        found = ticket.result()
        assert found.shape == (300, dim)
        assert not found.flags.writeable
        good = np.ones(300, bool)
        good[7:10] = False
        expected = batch[good] / np.linalg.norm(batch[good].astype(np.float64), axis=1, keepdims=True)
        np.testing.assert_allclose(found[good], expected, rtol=1e-5, atol=1e-6)
        assert (found[7] == 0).all()
        assert ticket.status().tolist() == [0] * 8 + [1, 1] + [0] * 290
        # In place: what a model writes with `out=` stands in the ring.
        reservation = lane.reserve(4)
        with reservation as slots:
            np.multiply(batch[:4], 2, out=slots)
        np.testing.assert_allclose(reservation.ticket.result(), found[:4], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["dot", "cosine", "l2sq"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_measures(vectors: ringlane.Client, seed: int, op: str, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    a, b = (
        rng.integers(-128, 128, (200, 50)).astype(np.int8) if dtype == "int8" else rows(seed + n, 200, 50)
        for n in (0, 1)
    )
    a[3] = 0
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    expected = {
        "dot": (wide_a * wide_b).sum(1),
        "l2sq": ((wide_a - wide_b) ** 2).sum(1),
        "cosine": np.divide(
            (wide_a * wide_b).sum(1),
            np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1),
            out=np.zeros(200),
            where=np.arange(200) != 3,
        ),
    }[op]
    with vectors.open("vectors", dim=50, op=op, dtype=dtype, timeout=60) as lane:
        np.testing.assert_allclose(lane.process(a, b), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(lane.process(a[:1], b[0]), expected[:1], rtol=1e-4, atol=1e-4)


def plain_search(corpus: np.ndarray, queries: np.ndarray, k: int, metric: str) -> np.ndarray:
    wide, asked = corpus.astype(np.float64), queries.astype(np.float64)
    scores = -((asked[:, None] - wide[None]) ** 2).sum(2) if metric == "l2" else asked @ wide.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_search(vectors: ringlane.Client, directory: Path, seed: int, metric: str) -> None:
    corpus, queries = rows(seed, 3000, 24), rows(seed + 1, 40, 24)
    queries[5, 0] = np.nan
    np.save(directory / "corpus.npy", corpus)
    steps: list[tuple[int, int]] = []
    loaded = vectors.corpora.load(
        "here", "corpus.npy", metric=metric, timeout=60, progress=lambda done, all_: steps.append((done, all_))
    )
    assert (loaded.rows, loaded.dim, loaded.metric, loaded.ready) == (3000, 24, metric, True)
    assert steps[-1] == (3000, 3000)
    (directory / "corpus.npy").write_bytes(b"")  # a file that is truncated later hurts nobody
    with vectors.open("vectors", dim=24, op="search", corpus="here", k=10, timeout=60) as lane:
        ticket = lane.submit(queries)
        found = ticket.result()
        good = np.arange(40) != 5
        assert (found.ids[good] == plain_search(corpus, queries[good], 10, metric)).all()
        assert ticket.status().tolist() == [int(n == 5) for n in range(40)]
        assert ticket.found().tolist() == [10 * int(n != 5) for n in range(40)]
        alone = lane.process(queries[0])
        assert (alone.ids[0] == found.ids[0]).all()
        assert (alone.scores[0] == found.scores[0]).all()
    vectors.corpora.drop("here")
    assert vectors.corpora.list() == []


def test_a_corpus_is_exchanged_and_dropped_under_its_searches(vectors: ringlane.Client, directory: Path) -> None:
    unit = np.eye(8, dtype=np.float32)
    np.save(directory / "one.npy", unit)
    np.save(directory / "two.npy", unit[::-1])
    np.save(directory / "ids.npy", np.arange(100, 108))
    vectors.corpora.load("moving", "one.npy", timeout=60)
    with vectors.open("vectors", dim=8, op="search", corpus="moving", k=1, timeout=60) as lane:
        assert lane.process(unit).ids[:, 0].tolist() == list(range(8))
        vectors.corpora.load("moving", "two.npy", timeout=60)
        assert lane.process(unit).ids[:, 0].tolist() == list(range(8))[::-1]
        vectors.corpora.load("moving", "one.npy", ids="ids.npy", timeout=60)
        assert lane.process(unit).ids[:, 0].tolist() == list(range(100, 108))
        vectors.corpora.drop("moving")
        assert lane.submit(unit).status().tolist() == [2] * 8
    with pytest.raises(ValueError, match="no corpus"):
        vectors.open("vectors", dim=8, op="search", corpus="moving", k=1)


def test_corpora_come_from_one_directory_only(vectors: ringlane.Client, directory: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.npy"
    np.save(outside, np.eye(3, dtype=np.float32))
    (directory / "link.npy").symlink_to(outside)
    (directory / "way").symlink_to(tmp_path)
    os.mkfifo(directory / "pipe.npy")
    (directory / "folder.npy").mkdir()
    climbing = os.path.relpath(outside, directory)
    for path in ("link.npy", "way/outside.npy", climbing, str(outside), "pipe.npy", "folder.npy", "none.npy", "a.txt"):
        with pytest.raises(ValueError, match=r"inside of|regular file|cannot open|must end in"):
            vectors.corpora.load("x", path, timeout=10)
    np.save(directory / "large.npy", np.zeros((200_000, 128), np.float32))
    with pytest.raises(ValueError, match="corpus_bytes_max"):
        vectors.corpora.load("large", "large.npy", timeout=60)
    (directory / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00rubbish")
    with pytest.raises(ValueError, match="broken"):
        vectors.corpora.load("broken", "broken.npy", timeout=60)
    with pytest.raises(ValueError, match="metric"):
        vectors.corpora.load("x", "large.npy", metric="manhattan")


def test_what_is_out_of_range_is_refused(vectors: ringlane.Client) -> None:
    for wrong, words in (
        ({"dim": 0, "op": "dot"}, "dim must be"),
        ({"dim": 10**6, "op": "dot"}, "dim must be"),
        ({"dim": 3, "op": "search"}, "needs corpus"),
        ({"dim": 3, "op": "twist"}, "op is one of"),
        ({"dim": 3, "op": "search", "corpus": "none", "k": 1}, "no corpus"),
        ({"dim": 3, "op": "search", "corpus": "none", "k": 1001}, "k must be 1 to 1000"),
        ({"dim": 3, "op": "dot", "k": 1}, "belong to op"),
    ):
        with pytest.raises(ValueError, match=words):
            vectors.open("vectors", **wrong)
    with vectors.open("vectors", dim=3, op="normalize", timeout=60) as lane:
        with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
            lane.process(np.zeros((2, 4), np.float32))
        with pytest.raises(TypeError, match="one array"):
            lane.process(np.zeros((2, 3)), np.zeros((2, 3)))
        with pytest.raises(TypeError, match="numbers"):
            lane.process(np.zeros((2, 3), complex))
        with pytest.raises(ringlane.RinglaneError, match="in batches"):
            lane.call(1.0)
