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


def of_message(enums: list[dict[str, Any]]) -> dict[str, Any]:
    """The enums of a lane, by name: those of this build where it has them, and those of a kernel of the user's own."""
    made = {}
    for enum in enums:
        members = [(member["name"], member["value"], member["doc"]) for member in enum["members"]]
        known = BY_NAME.get(enum["name"])
        same = known is not None and {m.name: m.value for m in known} == {name: value for name, value, _ in members}
        made[enum["name"]] = known if same else _make(enum["name"], enum["doc"], enum["flags"], members)
    return made


__all__ = ["BY_NAME", *BY_NAME]
