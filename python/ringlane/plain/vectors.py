"""Vector lanes and corpora without a sidecar: numpy, in the formulas that the documentation states."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..corpora import Corpora, Corpus
from ..schema import Field, Schema
from ..ticket import Records
from ..vectors import VectorLane, VectorTicket
from .lane import Plain

if TYPE_CHECKING:
    from .client import PlainClient

Array = npt.NDArray[Any]

_NONE = np.uint64(2**64 - 1)
_BAD_VALUE, _CORPUS_GONE = 1, 2


def _schema(name: str, fields: list[tuple[str, str]]) -> Schema:
    made, offset = [], 0
    for field, kind in fields:
        size = np.dtype(kind).itemsize
        made.append(Field(field, kind, offset, size, "", ""))
        offset += size
    return Schema(name, "", -(-offset // 64) * 64, "", tuple(made))


class PlainVectorLane(VectorLane, Plain):  # type: ignore[misc]
    """As `VectorLane`. Sums are numpy's, so results agree with a sidecar's to float32 rounding, not bit for bit."""

    _ticket_class = VectorTicket

    def __init__(
        self, client: PlainClient, number: int, depth: int, told: dict[str, Any], timeout: float | None
    ) -> None:
        self.op: str = told["op"]
        self.dim: int = told["dim"]
        self.dtype = np.dtype(told.get("dtype", "float32"))
        if self.dtype.name not in ("float32", "int8") or self.dim < 1:
            raise ValueError(f"dtype is float32 or int8 and dim from 1, not {self.dtype} and {self.dim}")
        self.k: int = told.get("k", 10)
        self.corpus: str | None = told.get("corpus")
        if self.op == "search" and client.plain_corpora.find(self.corpus, self.dim) is None:
            raise ValueError(
                f"there is no corpus {self.corpus!r} of dimension {self.dim}; client.corpora.load() makes one"
            )
        if not 1 <= self.k <= 1000:
            raise ValueError(f"k must be from 1 to 1000, not {self.k}")
        kind = f"({self.dim},){self.dtype.str}"
        inputs = [("a", kind), ("b", kind)] if self.op in ("dot", "cosine", "l2sq") else [("row", kind)]
        outputs = {
            "normalize": [("row", f"({self.dim},)<f4"), ("status", "<u4")],
            "search": [("ids", f"({self.k},)<u8"), ("values", f"({self.k},)<f4"), ("status", "<u4"), ("found", "<u4")],
        }.get(self.op, [("value", "<f4"), ("status", "<u4")])
        schemas = (_schema("VectorRequest", inputs), _schema("VectorResult", outputs))
        self._begin(client, "vectors", number, depth, schemas, timeout)
        self._inputs = [name for name, _ in inputs]
        self._outputs = [name for name, _ in outputs]

    def _answers(self, requests: Records) -> Records:
        rows = [requests[name].astype(np.float32) for name in self._inputs]
        results = np.zeros(len(requests), self.result_dtype)
        bad = ~np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in rows])
        results["status"] = np.where(bad, _BAD_VALUE, 0)
        with np.errstate(all="ignore"):
            if self.op == "search":
                self._search(rows[0], bad, results)
            elif self.op == "normalize":
                results["row"] = np.where(bad[:, None], rows[0], _unit(rows[0]))
            else:
                results["value"] = np.where(bad, np.float32(np.nan), _measure(self.op, *rows))
        return results

    def _search(self, queries: Array, bad: Array, results: Records) -> None:
        results["ids"], results["values"] = _NONE, np.nan
        plain: PlainCorpora = self._client.plain_corpora  # type: ignore[attr-defined]
        found = plain.find(self.corpus, self.dim)
        if found is None:
            results["status"] = _CORPUS_GONE
            return
        data, ids, metric = found
        k = min(self.k, len(data))
        for at in np.flatnonzero(~bad):
            op = {"ip": "dot", "cosine": "cosine", "l2": "l2sq"}[metric]
            scores = _measure(op, data, queries[at : at + 1])
            order = np.lexsort((ids, scores if metric == "l2" else -scores))[:k]
            results["ids"][at, :k], results["values"][at, :k] = ids[order], scores[order]
            results["found"][at] = k


def _unit(rows: Array) -> Array:
    wide = rows.astype(np.float64)
    length = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    unit: Array = (wide / np.where(length == 0, 1, length)).astype(np.float32)
    return unit


def _measure(op: str, a: Array, b: Array) -> Array:
    wide, other = a.astype(np.float64), b.astype(np.float64)
    if op == "l2sq":
        squares: Array = ((wide - other) ** 2).sum(axis=1).astype(np.float32)
        return squares
    dots: Array = (wide * other).sum(axis=1)
    if op == "cosine":
        length = np.sqrt((wide * wide).sum(axis=1)) * np.sqrt((other * other).sum(axis=1))
        dots = np.where(length == 0, 0, dots / np.where(length == 0, 1, length))
    narrow: Array = dots.astype(np.float32)
    return narrow


class PlainCorpora(Corpora):
    """As `Corpora`, for the clients of one process; `.npy` files from anywhere."""

    def __init__(self) -> None:
        self._corpora: dict[str, tuple[Array, Array, str]] = {}

    def load(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        metric: str = "ip",
        ids: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        wait: bool = True,
    ) -> Corpus:
        """As `Corpora.load`. Raises `NotImplementedError` for other files than `.npy`."""
        if Path(path).suffix != ".npy":
            raise NotImplementedError(f"the Python backend loads .npy files, not {os.fspath(path)}")
        if metric not in ("ip", "cosine", "l2"):
            raise ValueError(f'metric is "ip", "cosine" or "l2", not {metric!r}')
        rows = np.load(path, allow_pickle=False)
        if rows.ndim != 2 or rows.dtype not in (np.float32, np.int8) or not np.isfinite(rows).all():
            raise ValueError(f"the corpus {name!r} could not be loaded: it needs finite rows of float32 or int8")
        numbers = np.arange(len(rows), dtype=np.uint64) if ids is None else np.load(ids, allow_pickle=False)
        if len(numbers) != len(rows):
            raise ValueError(f"the corpus {name!r} could not be loaded: {len(numbers)} ids for {len(rows)} rows")
        self._corpora[name] = (rows.astype(np.float32), numbers.astype(np.uint64), metric)
        if progress is not None:
            progress(len(rows), len(rows))
        return self._one(name)

    def list(self) -> list[Corpus]:
        """As `Corpora.list`."""
        return [
            Corpus(name, True, False, None, len(rows), rows.shape[1], rows.nbytes, metric, (len(rows), len(rows)))
            for name, (rows, _, metric) in sorted(self._corpora.items())
        ]

    def drop(self, name: str) -> None:
        """As `Corpora.drop`."""
        if self._corpora.pop(name, None) is None:
            raise ValueError(f"there is no corpus {name!r}")

    def find(self, name: str | None, dim: int) -> tuple[Array, Array, str] | None:
        """Rows, ids and metric of a corpus of this dimension, if there is one."""
        found = self._corpora.get(name or "")
        return found if found is not None and found[0].shape[1] == operator.index(dim) else None
