"""Record schemas, as the sidecar sends them when a lane opens, and the numpy dtypes that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ._shim import RECORDS, SchemaMismatch

_FNV_OFFSET = 0xCBF2_9CE4_8422_2325
_FNV_PRIME = 0x0100_0000_01B3


@dataclass(frozen=True)
class Field:
    """One field of a record: its place, its numpy type string, the name of its enum or "", and what it holds."""

    name: str
    type: str
    offset: int
    size: int
    enum: str
    doc: str

    @property
    def reserved(self) -> bool:
        """Whether the field must hold zero bytes and is hidden from dtypes."""
        return self.name.startswith("reserved")

    @property
    def number(self) -> bool:
        """Whether the field holds one number."""
        return self.type[1] in "uif"


@dataclass(frozen=True)
class Schema:
    """A whole record."""

    name: str
    doc: str
    size: int
    hash: str
    fields: tuple[Field, ...]

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Schema:
        """Reads a schema of the control protocol and proves that its hash is the hash of what it says.

        Raises `SchemaMismatch` when it is not.
        """
        fields = tuple(Field(**{key: field[key] for key in Field.__dataclass_fields__}) for field in message["fields"])
        schema = cls(message["name"], message["doc"], message["size"], message["hash"], fields)
        if schema._computed_hash() != schema.hash:
            raise SchemaMismatch(f"the schema of {schema.name} does not have the hash that the sidecar states")
        return schema

    def _computed_hash(self) -> str:
        value = _FNV_OFFSET
        pieces = [self.name.encode(), self.size.to_bytes(8, "little")]
        for field in self.fields:
            pieces += [field.name.encode(), field.type.encode(), field.offset.to_bytes(8, "little")]
        for byte in b"".join(pieces):
            value = (value ^ byte) * _FNV_PRIME & 0xFFFF_FFFF_FFFF_FFFF
        return f"{value:016x}"

    @cached_property
    def visible(self) -> tuple[Field, ...]:
        """The fields that are not reserved, in the order of their offsets."""
        return tuple(field for field in self.fields if not field.reserved)

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """A structured dtype of the record's size; reserved fields are padding."""
        return np.dtype(
            {
                "names": [field.name for field in self.visible],
                "formats": [field.type for field in self.visible],
                "offsets": [field.offset for field in self.visible],
                "itemsize": self.size,
            }
        )

    @property
    def numbers(self) -> list[tuple[str, int, int, str]]:
        """Name, offset, size and kind letter of each visible number."""
        return [(field.name, field.offset, field.size, field.type[1]) for field in self.visible if field.number]

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)


NO_RECORD = Schema("", "", 0, "", ())
"""The schema of what a lane does not have."""


def _built_in() -> dict[str, Schema]:
    schemas = {}
    for name, doc, size, hash_, fields in RECORDS:
        schemas[name] = Schema(name, doc, size, hash_, tuple(Field(*field) for field in fields))
    return schemas


BUILT_IN: Mapping[str, Schema] = _built_in()
"""The schemas that this build of Ringlane was compiled with, by record name. Lanes follow what the sidecar sends."""
