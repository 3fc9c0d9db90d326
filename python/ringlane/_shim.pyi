from collections.abc import Callable
from typing import Any, final

from typing_extensions import Self, disjoint_base

__all__ = [
    "BUILD_HASH",
    "LAYOUT_VERSION",
    "CONTROL_MESSAGE_BYTES_MAX",
    "CONTROL_FDS_MAX",
    "DEPTH_SLOTS_MAX",
    "ENUMS",
    "RECORDS",
    "RinglaneError",
    "SidecarUnavailable",
    "SidecarLost",
    "LaneFull",
    "LaneFaulted",
    "SchemaMismatch",
    "Hub",
    "Lease",
    "Hold",
    "Lane",
]

BUILD_HASH: str
LAYOUT_VERSION: int
CONTROL_MESSAGE_BYTES_MAX: int
CONTROL_FDS_MAX: int
DEPTH_SLOTS_MAX: int
ENUMS: list[tuple[str, str, bool, list[tuple[str, int, str]]]]
RECORDS: list[tuple[str, str, int, str, list[tuple[str, str, int, int, str, str]]]]

class RinglaneError(Exception): ...
class SidecarUnavailable(RinglaneError): ...
class SidecarLost(RinglaneError): ...
class LaneFull(RinglaneError): ...
class LaneFaulted(RinglaneError): ...
class SchemaMismatch(RinglaneError): ...

@final
class Hub:
    def __new__(cls, notify: int) -> Hub: ...
    def fileno(self) -> int: ...
    @property
    def ended(self) -> bool: ...
    def watch(self, poke: int) -> None: ...
    def unwatch(self, poke: int) -> None: ...
    def drain(self) -> None: ...

@final
class Lease:
    @property
    def first(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def __array_interface__(self) -> dict[str, Any]: ...

@disjoint_base
class Hold:
    lease: Lease | None
    def __new__(
        cls,
        lane: Lane,
        count: int,
        timeout_ns: int | None = None,
        waits: bool = True,
        view: Callable[[Lease], Any] | None = None,
    ) -> Self: ...
    @property
    def first(self) -> int: ...
    @property
    def ring_number(self) -> int: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, kind: object, _error: object, _trace: object, /) -> None: ...

@final
class Lane:
    def __new__(
        cls,
        hub: Hub,
        requests: int,
        results: int,
        doorbell: int,
        *,
        lane: int,
        depth: int,
        events: int,
        request_hash: int,
        result_hash: int,
        request_fields: list[tuple[str, int, int, str]],
        request_spans: list[tuple[int, int]],
        result_fields: list[tuple[str, int, int, str]],
        timeout_ns: int | None = None,
    ) -> Lane: ...
    @property
    def call(self) -> Callable[..., tuple[Any, ...]]: ...
    def request_ring(self) -> Lease: ...
    def wait(self, target: int, timeout_ns: int | None = None) -> None: ...
    def settled(self, target: int) -> bool: ...
    def wait_events(self, timeout_ns: int | None = None) -> None: ...
    def take_events(self, max: int) -> bytearray: ...
    def enlist(self, target: int) -> None: ...
    def announce(self, target: int) -> bool: ...
    def withdraw(self, target: int) -> None: ...
    @property
    def cursors(self) -> tuple[int, int, int, int, int]: ...
    def check(self) -> None: ...
    def close(self) -> None: ...
