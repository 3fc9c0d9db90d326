"""The numbers that stand in record fields, as enums. They come out of the compiled layout; nothing is typed twice.

`enums.pyi` is generated from the same data by `generate_stubs.py`, so that type checkers see the members.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Any

from ._shim import ENUMS


def _make(name: str, doc: str, flags: bool, members: list[tuple[str, int, str]]) -> Any:
    pairs = [(member, value) for member, value, _ in members]
    made: Any = (IntFlag if flags else IntEnum)(name, pairs, module="ringlane.enums")
    made.__doc__ = doc
    for member, _, words in members:
        made[member].__doc__ = words
    return made


BY_NAME: dict[str, Any] = {name: _make(name, doc, flags, members) for name, doc, flags, members in ENUMS}
globals().update(BY_NAME)
__all__ = ["BY_NAME", *BY_NAME]
