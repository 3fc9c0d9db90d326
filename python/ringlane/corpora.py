"""Corpora: vectors that stand in the sidecar's memory once, for all clients that search them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _shim

if TYPE_CHECKING:
    from .client import Client
    from .wire import ControlSocket

_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Corpus:
    """One corpus. `progress` is (rows read, rows) of the last load; `error` says why that load failed, or is None."""

    name: str
    ready: bool
    loading: bool
    error: str | None
    rows: int = 0
    dim: int = 0
    bytes: int = 0
    metric: str = ""
    progress: tuple[int, int] = (0, 0)


class Corpora:
    """The sidecar's corpora; `client.corpora`.

    Files are read from below one directory that the sidecar's configuration names (`corpus_directory` in `[vectors]`).
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loaded: dict[str, dict[str, Any]] = {}  # by name, as it was asked for

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
        """Loads a `.npy` (rows of float32 or int8) or `.fvecs` file as a corpus, once for all clients.

        `path` and `ids` (a `.npy` of one 64-bit integer a row; default: row numbers) are relative to the corpus directory.
        `metric` is "ip" (largest inner product), "cosine", or "l2" (smallest squared distance). A corpus of that name is
        exchanged in one step when the new one is whole; searches under way end with the old one. `progress(done, rows)` is
        called now and then. With `wait=False` it returns at once; `list()` says how far it is.

        Raises `ValueError` for what cannot be loaded, `TimeoutError` (it goes on), `SidecarUnavailable` (not permitted).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        message: dict[str, Any] = {"name": name, "path": os.fspath(path), "metric": metric}
        if ids is not None:
            message["ids"] = os.fspath(ids)
        self._client._control.request(op="corpus", what="load", **message)
        while True:
            corpus = self._one(name)
            if progress is not None:
                progress(*corpus.progress)
            if corpus.error is not None:
                raise ValueError(f"the corpus {name!r} could not be loaded: {corpus.error}")
            if not (wait and corpus.loading):
                self._loaded[name] = message
                return corpus
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the corpus {name!r} is still being loaded: {corpus.progress}")
            time.sleep(_LOOK_SECONDS)

    def list(self) -> list[Corpus]:
        """All corpora that this user may use, by name, those that are being loaded or failed to load too."""
        reply, _ = self._client._control.request(op="corpus", what="list")
        return [Corpus(**{**entry, "progress": tuple(entry.get("progress", (0, 0)))}) for entry in reply["corpora"]]

    def drop(self, name: str) -> None:
        """Takes a corpus away: searches under way end with it, later ones find nothing, status 2. `ValueError` for none."""
        self._loaded.pop(name, None)
        self._client._control.request(op="corpus", what="drop", name=name)

    def _bring_back(self, control: ControlSocket, name: str) -> None:
        """Sees to it that a sidecar that was started anew has a corpus: loads it if this client did before.

        Raises `SidecarUnavailable` while it is not there: who loaded it will do so again, so ask again.
        """
        reply, _ = control.request(op="corpus", what="list")
        known = {entry["name"]: entry for entry in reply["corpora"]}
        entry = known.get(name, {"ready": False, "loading": False, "error": None})
        if entry["ready"]:
            return
        if name in self._loaded and not entry["loading"]:
            if entry["error"] is not None:
                raise _shim.RinglaneError(f"the corpus {name!r} could not be loaded again: {entry['error']}")
            control.request(op="corpus", what="load", **self._loaded[name])
        raise _shim.SidecarUnavailable(f"the corpus {name!r} is not there yet")

    def _one(self, name: str) -> Corpus:
        for corpus in self.list():
            if corpus.name == name:
                return corpus
        raise _shim.RinglaneError(f"the corpus {name!r} was dropped while it was being loaded")
