"""Vector lanes: normalising, products, cosines and distances of rows, and exact top-k against resident corpora."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from .jobs import JobLane, JobTicket
from .lane import OnFull
from .ticket import Records

if TYPE_CHECKING:
    from .client import Client
    from .wire import ControlSocket

Array = npt.NDArray[Any]

_CORPUS_BYTES = 1 << 20  # what a query is thought to be compared with
_OPS = ("normalize", "dot", "cosine", "l2sq", "search")


class Found(NamedTuple):
    """What a search found.

    `ids` of shape (n, k), dtype uint64, best first, ties by id, beyond what was found all
    ones; `scores` of shape (n, k), float32, there NaN.
    """

    ids: Array
    scores: Array


class VectorTicket(JobTicket):
    """Submitted rows whose results are not looked at yet; awaited or asked as any `Ticket`."""

    __slots__ = ()

    def status(self, timeout: float | None = None) -> Array:
        """Waits as `result` does; a number a row, shape (n,), dtype uint32: 0, or 1 where it has NaN or an infinity, or 2
        where the corpus of a search was dropped."""
        return self._records(timeout)["status"]

    def found(self, timeout: float | None = None) -> Array:
        """For searches: how many ids a row has, shape (n,), dtype uint32: k, or all rows of a smaller corpus, or 0."""
        return self._records(timeout)["found"]

    def _records(self, timeout: float | None) -> Records:
        self.result(timeout)
        assert self._lease is not None, "a copied result has given its slots back; ask for the status before"
        return np.asarray(self._lease).view(self._lane.result_dtype)


class VectorLane(JobLane):
    """A lane of `client.open("vectors", dim=384, op=..., dtype="float32" | "int8", corpus=None, k=None)`.

    | op | a batch | its result |
    | --- | --- | --- |
    | `"normalize"` | rows (n, dim) | the rows at length 1: (n, dim) float32 |
    | `"dot"`, `"cosine"`, `"l2sq"` | rows (n, dim) and `other` (n, dim) or (dim,) | a value a row: (n,) float32 |
    | `"search"` | queries (n, dim), with `corpus` and `k` from 1 to 1000 (10) | `Found(ids, scores)`, (n, k) each |

    A zero vector has cosine 0.0 and stays as it is when normalised. A row with NaN or an infinity gets status 1, spoils no
    other, and stays as it is, or gives NaN, or finds nothing. `search` is exact: the answer of a plain float32 scan.
    Results are read-only looks into the ring; `ticket.status()` has the status of each row.

    >>> import numpy as np, ringlane
    >>> with ringlane.connect() as client, client.open("vectors", dim=2, op="normalize") as lane:
    ...     lane.process(np.array([[3, 4], [0, 0]], np.float32)).round(3).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """

    _ticket_class = VectorTicket

    @classmethod
    def _parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        known = {"dim", "op", "dtype", "corpus", "k"}
        if unknown := set(parameters) - known:
            raise TypeError(f"a lane of vectors has no parameter {min(unknown)!r}; it has {', '.join(sorted(known))}")
        if parameters.get("op") not in _OPS:
            raise ValueError(f"op is one of {', '.join(_OPS)}, not {parameters.get('op')!r}")
        if "dim" not in parameters:
            raise TypeError("a lane of vectors needs dim")
        told = {key: value for key, value in parameters.items() if value is not None}
        if "dtype" in told:
            told["dtype"] = np.dtype(told["dtype"]).name
        return told | {key: operator.index(told[key]) for key in ("dim", "k") if key in told}

    def __init__(self, client: Client, reply: dict[str, Any], files: list[int], timeout: float | None) -> None:
        super().__init__(client, reply, files, timeout)
        self._inputs = [field.name for field in self.request_schema.visible]
        subdtype = self.request_dtype[self._inputs[0]].subdtype
        assert subdtype is not None
        self.dtype: np.dtype[Any] = subdtype[0]
        self.dim: int = subdtype[1][0]
        self._outputs = [field.name for field in self.result_schema.visible]
        if "ids" in self._outputs:
            self._slot_weight = _CORPUS_BYTES

    def submit(  # type: ignore[override]
        self, rows: Array, other: Array | None = None, timeout: float | None = None, on_full: OnFull = "block"
    ) -> VectorTicket:
        """Submits rows without waiting for their results: shape (n, dim) or (dim,), 1 <= n <= depth.

        Any dtype that fits the lane's without loss of kind is taken (integers and float64 become float32). Raises
        `ValueError` for another dimension, `TypeError` for what is no such array, else as `Lane.submit`.
        """
        first = self._rows("rows", rows)
        batch = np.zeros(len(first), self.request_dtype)
        batch[self._inputs[0]] = first
        if len(self._inputs) == 2:
            if other is None:
                raise TypeError("this lane compares vectors: give the other ones as `other`")
            second = self._rows("other", other)
            if len(second) not in (1, len(first)):
                raise ValueError(f"{len(first)} rows cannot be compared with {len(second)}; give one, or as many")
            batch[self._inputs[1]] = second
        elif other is not None:
            raise TypeError("this lane takes one array of rows")
        return cast(VectorTicket, super().submit(batch, timeout, on_full))

    def process(  # type: ignore[override]
        self,
        rows: Array,
        other: Array | None = None,
        timeout: float | None = None,
        copy: bool = False,
        on_full: OnFull = "block",
    ) -> Any:
        """Submits rows and waits for their results; see the class for their shapes. Raises as `submit` and `Ticket.result`."""
        ticket = self.submit(rows, other, timeout, on_full)
        return ticket.result(timeout, copy)

    def _rows(self, name: str, rows: Array) -> Array:
        array = np.atleast_2d(np.asarray(rows))
        if array.ndim != 2 or array.shape[1] != self.dim:
            raise ValueError(f"{name} must have shape (n, {self.dim}), not {np.shape(rows)}")
        if not np.can_cast(array.dtype, self.dtype, "same_kind") or array.dtype.kind not in "iuf":
            raise TypeError(f"{name} must be numbers that fit {self.dtype}, not {array.dtype}")
        if self.dtype.kind == "i" and array.size and (array.min() < -128 or array.max() > 127):
            raise ValueError(f"{name} must be -128 to 127")
        return array.astype(self.dtype, copy=False)

    def _reopen(self, control: ControlSocket) -> None:
        if "corpus" in self._opening["parameters"]:
            self._client.corpora._bring_back(control, self._opening["parameters"]["corpus"])
        super()._reopen(control)

    def _fillable(self, slots: Records) -> Any:
        return slots[self._inputs[0]] if len(self._inputs) == 1 else slots

    def _looked_at(self, results: Records) -> Any:
        if "ids" in self._outputs:
            return Found(results["ids"], results["values"])
        return results[self._outputs[0]]
