"""Building request arrays from columns: names to numbers, decimal prices to price units, everything checked and exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt

from .enums import BY_NAME
from .schema import Field, Schema

Array = npt.NDArray[Any]

_EXACT_FLOAT_INTEGER_MAX = float(2**53)
_INT64_DIGITS = 19


@dataclass(frozen=True)
class Instrument:
    """One instrument. Prices count units of 10^-price_decimals of its currency; `tick` and `reference_price` are in units."""

    symbol: int
    name: str
    price_decimals: int
    tick: int
    lot: int
    reference_price: int


class Instruments(Mapping[str, int]):
    """The sidecar's symbols: names to numbers, in the order of the numbers."""

    def __init__(self, rows: Array) -> None:
        self._by_name: dict[str, Instrument] = {}
        for row in rows:
            name = bytes(row["name"]).rstrip(b"\0").decode("ascii")
            numbers = (int(row[key]) for key in ("price_decimals", "tick", "lot", "reference_price"))
            self._by_name[name] = Instrument(int(row["symbol"]), name, *numbers)
        self._by_number = {instrument.symbol: instrument for instrument in self._by_name.values()}
        self._names = sorted(self._by_name)
        self._numbers = np.array([self._by_name[name].symbol for name in self._names], np.int64)
        self._decimals = np.full(max(self._by_number, default=0) + 1, -1, np.int64)
        self._ticks = np.ones_like(self._decimals)
        for number, instrument in self._by_number.items():
            self._decimals[number] = instrument.price_decimals
            self._ticks[number] = instrument.tick

    def __getitem__(self, name: str) -> int:
        try:
            return self._by_name[name].symbol
        except KeyError:
            raise KeyError(
                f"there is no symbol {name!r}; the sidecar has {len(self)}, e.g. {self._names[:5]}"
            ) from None

    def __iter__(self) -> Any:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<{len(self)} symbols: {', '.join(self._names[:5])}, ...>"

    def instrument(self, symbol: str | int) -> Instrument:
        """The instrument of a name or number. Raises `KeyError` when there is none."""
        if isinstance(symbol, str):
            return self._by_number[self[symbol]]
        try:
            return self._by_number[int(symbol)]
        except KeyError:
            raise KeyError(f"there is no symbol number {symbol}; the sidecar has 1 to {len(self)}") from None

    def numbers(self, names: Array) -> Array:
        """Symbol numbers of an array of names."""
        wanted = names.astype(str)
        if not len(self):
            raise ValueError("the sidecar has no symbols")
        places = np.minimum(np.searchsorted(self._names, wanted), len(self) - 1)
        wrong = np.asarray(self._names)[places] != wanted
        if wrong.any():
            raise ValueError(f"there is no symbol {str(wanted[wrong].flat[0])!r}; client.symbols lists them")
        return self._numbers[places]

    def decimals(self, symbols: Array) -> Array:
        """Price decimals of an array of symbol numbers."""
        known = (symbols >= 0) & (symbols < len(self._decimals))
        decimals = np.where(known, self._decimals[np.where(known, symbols, 0)], -1)
        if (decimals < 0).any():
            number = int(symbols[decimals < 0].flat[0])
            raise ValueError(
                f"a decimal price needs a known symbol to be counted in its units, and there is no symbol {number}"
            )
        return decimals

    def check_ticks(self, name: str, values: Any, units: Array, symbols: Array) -> None:
        """Raises `ValueError` for decimals off their symbol's tick; integers are units, which the sidecar checks itself."""
        given = np.asarray(values)
        if given.dtype.kind in "iu":
            return
        off = units % self._ticks[symbols] != 0
        if given.dtype.kind == "O":
            off &= np.array([not isinstance(item, (int, np.integer)) for item in given.flat]).reshape(given.shape)
        if off.any():
            instrument = self._by_number[int(np.broadcast_to(symbols, off.shape)[off].flat[0])]
            value = np.broadcast_to(given, off.shape)[off].flat[0]
            shown = value.item() if isinstance(value, np.generic) else value
            tick = f"{Decimal((0, tuple(map(int, str(instrument.tick))), -instrument.price_decimals)):f}"
            tick = tick.rstrip("0").rstrip(".") if "." in tick else tick
            raise _fail(name, shown, f"is not a multiple of {instrument.name}'s tick of {tick}")


def _fail(name: str, value: Any, why: str) -> ValueError:
    return ValueError(f"{name} {value!r} {why}")


def _exact_units(name: str, value: Any, decimals: int) -> int:
    """A decimal in units of 10^-decimals. Whole numbers alone: Decimal's own arithmetic rounds as the caller's context says."""
    try:
        sign, digits, exponent = (value if isinstance(value, Decimal) else Decimal(str(value))).as_tuple()
    except (InvalidOperation, ValueError):
        raise _fail(name, value, "is not a decimal number") from None
    if not isinstance(exponent, int):
        raise _fail(name, value, "is not a decimal number")
    text = "".join(map(str, digits)).lstrip("0")
    short = text.rstrip("0")
    if not short:
        return 0
    power = exponent + decimals + len(text) - len(short)
    if power < 0:
        raise _fail(name, value, f"has more than the symbol's {decimals} decimals")
    if len(short) + power > _INT64_DIGITS:
        raise _fail(name, value, "is larger than 64 bits can count")
    whole = int(short + "0" * power)
    return -whole if sign else whole


def price_units(name: str, values: Any, decimals: Callable[[], Array]) -> Array:
    """Prices as integer price units, exactly. Integers are units already; `decimals` is asked for anything else.

    A float stands for the shortest decimal number that it prints as. Raises `ValueError` for what has too many decimals.

    >>> price_units("price", [150.25, 0.1], lambda: np.array(4))
    array([1502500,    1000])
    >>> int(price_units("price", "150.25", lambda: np.array(4)))
    1502500
    """
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "f":
        return _float_units(name, array, decimals())
    if array.dtype.kind not in "USO":
        raise TypeError(f"{name} must be integers, floats, strings or Decimals, not {array.dtype}")
    if array.dtype.kind == "S":
        array = array.astype(str)
    places = np.broadcast_to(decimals(), np.broadcast_shapes(array.shape, decimals().shape))
    array = np.broadcast_to(array, places.shape)
    if array.dtype.kind == "O":
        pairs = zip(array.flat, places.flat, strict=True)
        units = [int(v) if isinstance(v, (int, np.integer)) else _exact_units(name, v, int(d)) for v, d in pairs]
        return _integers(name, units, array.shape)
    # Strings repeat: each distinct pair of text and decimals is read once.
    texts, text_of = np.unique(array, return_inverse=True)
    kinds, kind_of = np.unique(places, return_inverse=True)
    pairs_of = text_of.reshape(-1) * len(kinds) + kind_of.reshape(-1)
    distinct, place_of = np.unique(pairs_of, return_inverse=True)
    units = [_exact_units(name, str(texts[p // len(kinds)]), int(kinds[p % len(kinds)])) for p in distinct]
    whole: Array = _integers(name, units, (len(units),))[place_of.reshape(array.shape)]
    return whole


def _integers(name: str, units: list[int], shape: tuple[int, ...]) -> Array:
    try:
        return np.array(units, np.int64).reshape(shape)
    except OverflowError:
        raise ValueError(f"{name} is larger than 64 bits can count") from None


def _float_units(name: str, array: Array, decimals: Array) -> Array:
    scale = 10.0 ** decimals.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        units = np.rint(array.astype(np.float64) * scale)
        exact = (np.abs(units) <= _EXACT_FLOAT_INTEGER_MAX) & ((units / scale).astype(array.dtype) == array)
    if not exact.all():
        bad = np.broadcast_to(array, exact.shape)[~exact].flat[0]
        places = int(np.broadcast_to(decimals, exact.shape)[~exact].flat[0])
        raise _fail(
            name, bad.item(), f"is not a number of {places} decimals that a float holds exactly; use str or Decimal"
        )
    return units.astype(np.int64)


def _members(field: Field, array: Array, enums: Mapping[str, Any]) -> Array:
    enum = enums.get(field.enum)
    if enum is None:
        raise TypeError(f"{field.name} must be numbers, not strings")
    names, place_of = np.unique(array.astype(str), return_inverse=True)
    try:
        return np.array([int(enum[str(name)]) for name in names])[place_of.reshape(array.shape)]
    except KeyError as error:
        raise ValueError(f"{field.name} {error} is none of {', '.join(enum.__members__)}") from None


def column(field: Field, values: Any, enums: Mapping[str, Any] = BY_NAME) -> Array:
    """Values of one field as an array that fits it. Raises `ValueError` or `TypeError` in words when they do not."""
    array = np.asarray(values)
    if array.ndim > 1:
        raise ValueError(f"{field.name} must be a scalar or a one-dimensional array, not of shape {array.shape}")
    target = np.dtype(field.type)
    if target.kind not in "iu":
        return array.astype(target)
    if array.dtype.kind in "US" and field.enum:
        array = _members(field, array, enums)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (np.rint(array) == array)
        if not whole.all():
            raise ValueError(f"{field.name} must be whole numbers, not {array[~whole].flat[0]!r}")
    elif array.dtype.kind not in "iub" and not (
        array.dtype.kind == "O" and all(isinstance(item, (int, np.integer)) for item in array.flat)
    ):
        raise TypeError(f"{field.name} must be integers, not {array.dtype}")
    info = np.iinfo(target)
    if array.size and (array.min() < info.min or array.max() > info.max):
        raise ValueError(f"{field.name} must be {info.min} to {info.max}")
    return array.astype(target)


def build(
    schema: Schema,
    columns: Mapping[str, Any],
    defaults: Mapping[str, Any],
    instruments: Instruments | None,
    enums: Mapping[str, Any] = BY_NAME,
) -> Array:
    """An array of `schema.dtype` from columns and scalars; all columns must have one length (a scalar alone makes one record).

    With `instruments`, fields named `symbol` take names and fields named `price` take decimals.
    """
    names = {field.name for field in schema.visible}
    unknown = [name for name in columns if name not in names]
    if unknown:
        raise TypeError(
            f"{schema.name} has no field {unknown[0]!r}; it has {', '.join(f.name for f in schema.visible)}"
        )
    values = {**defaults, **columns}
    if instruments is not None:
        symbols = np.asarray(values.get("symbol", 0))
        if symbols.dtype.kind in "USO" and all(isinstance(item, (str, bytes)) for item in symbols.flat):
            symbols = instruments.numbers(symbols)
        values["symbol"] = symbols
        known = instruments
        if "price" in values:
            units = price_units("price", values["price"], lambda: known.decimals(symbols))
            known.check_ticks("price", values["price"], units, symbols)
            values["price"] = units
        if "stop_price" in values:
            units = price_units("stop_price", values["stop_price"], lambda: known.decimals(symbols))
            known.check_ticks("stop_price", values["stop_price"], units, symbols)
            values["stop_price"] = units
    arrays = {field.name: column(field, values[field.name], enums) for field in schema.visible if field.name in values}
    lengths = {name: len(array) for name, array in arrays.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {', '.join(f'{name} {n}' for name, n in lengths.items())}")
    made = np.zeros(next(iter(lengths.values()), 1), schema.dtype)
    for name, array in arrays.items():
        made[name] = array
    return made
