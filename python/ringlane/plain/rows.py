"""Rows of state queries. A sidecar sends their schemas; here they are written down, and the tests hold them against its own."""

from __future__ import annotations

import numpy as np


def _dtype(size: int, fields: str) -> np.dtype[np.void]:
    """A dtype of `size` bytes from words like "u4:symbol"; fields follow each other, what is left is padding."""
    formats, names = zip(*(word.split(":") for word in fields.split()), strict=True)
    sizes = [np.dtype(f).itemsize for f in formats]
    offsets = [sum(sizes[:at]) for at in range(len(sizes))]
    return np.dtype({"names": list(names), "formats": list(formats), "offsets": offsets, "itemsize": size})


OPEN_ORDER = _dtype(
    72,
    "u8:order_id u8:client_order_id i8:price i8:stop_price u8:expires_ns u4:remaining_quantity u4:shown_quantity "
    "u4:display_quantity u4:filled_quantity u4:symbol u4:account u4:lane u1:side u1:order_type u1:time_in_force u1:flags",
)
POSITION = _dtype(
    64, "u4:account u4:symbol i8:net_quantity u8:open_buy_quantity u8:open_sell_quantity u8:cash_low i8:cash_high"
)
BOOK_LEVEL = _dtype(32, "i8:price u8:quantity u4:order_count u1:side")
INSTRUMENT = _dtype(64, "u4:symbol u4:price_decimals i8:tick i8:lot i8:reference_price 24u1:name u4:live")
