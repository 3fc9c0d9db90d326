"""What a request must be by itself, in the order kernel's own order of checks: a reject code, or 0.

The whole table stands at the top of the kernel's `check.rs`; here are its rows for what this backend does.
"""

from __future__ import annotations

from typing import NamedTuple

from ..enums import Op, OrderFlag, OrderType, RejectCode, TimeInForce

QUANTITY_MAX = 2**27 - 1
ICEBERG_PARTS_MAX = 256
PRICE_MAX = 2**36 - 1

NEW, CANCEL, REDUCE, REPLACE, TAKE_OVER, CANCEL_ALL = (int(op) for op in Op)
LIMIT, MARKET, STOP, STOP_LIMIT = (int(kind) for kind in OrderType)
GTC, IOC, FOK, DAY, GTD = (int(time) for time in TimeInForce)
POST_ONLY, REDUCE_ONLY, THIS_LANE = (int(flag) for flag in OrderFlag)
CODE = {code.name: int(code) for code in RejectCode}


class Request(NamedTuple):
    """An order request; fields as in the record `OrderRequest`."""

    op: int
    side: int
    order_type: int
    time_in_force: int
    symbol: int
    account: int
    flags: int
    client_order_id: int
    price: int
    quantity: int
    stop_price: int
    expires_ns: int
    display_quantity: int

    @property
    def may_rest(self) -> bool:
        """Whether what does not trade rests."""
        return self.op == REPLACE or self.time_in_force not in (IOC, FOK)

    @property
    def is_stop(self) -> bool:
        """Whether it waits for its stop price."""
        return self.order_type in (STOP, STOP_LIMIT) if self.op == NEW else self.stop_price != 0

    @property
    def is_market(self) -> bool:
        """Whether it trades at any price, at once or when it is triggered."""
        if self.op == NEW:
            return self.order_type in (MARKET, STOP)
        return self.stop_price != 0 and self.price == 0

    @property
    def limit(self) -> int | None:
        """The limit price; None for a market order."""
        return None if self.is_market else self.price


def not_done(request: Request) -> str:
    """What this backend does not do and the request asks for, or ""."""
    if request.op == NEW and request.time_in_force in (DAY, GTD):
        return f"{TimeInForce(request.time_in_force).name} orders"
    return ""


def structure(request: Request) -> int:
    """Known numbers and flags, and fields that fit together. (Reserved bytes of what Python submits are always zero.)"""
    op, kind, time = request.op, request.order_type, request.time_in_force
    if not NEW <= op <= CANCEL_ALL:
        return CODE["UNKNOWN_OP"]
    if op in (NEW, REPLACE) and request.side not in (1, 2):
        return CODE["UNKNOWN_SIDE"]
    if op == NEW and not LIMIT <= kind <= STOP_LIMIT:
        return CODE["UNKNOWN_ORDER_TYPE"]
    if op == NEW and not GTC <= time <= GTD:
        return CODE["UNKNOWN_TIME_IN_FORCE"]
    if op in (NEW, REPLACE, CANCEL_ALL) and request.flags & ~(POST_ONLY | REDUCE_ONLY | THIS_LANE):
        return CODE["UNKNOWN_FLAG"]
    immediate, post_only = time in (IOC, FOK), bool(request.flags & POST_ONLY)
    bad = False
    if op == NEW:
        bad = (
            (kind == MARKET and (not immediate or request.price != 0 or post_only))
            or (request.stop_price != 0 and not request.is_stop)
            or (request.is_stop and (immediate or post_only))
            or (kind == STOP and request.price != 0)
            or (post_only and immediate)
            or request.expires_ns != 0
            or (request.display_quantity != 0 and (kind != LIMIT or immediate))
            or bool(request.flags & THIS_LANE)
        )
    elif op == REPLACE:
        bad = bool(request.flags & ~POST_ONLY) or (request.stop_price != 0 and post_only)
    elif op == CANCEL_ALL:
        bad = bool(request.flags & ~THIS_LANE)
    return CODE["BAD_COMBINATION"] if bad else 0


def quantity(request: Request, lot: int) -> int:
    """NEW, REDUCE, REPLACE."""
    if request.quantity <= 0:
        return CODE["QUANTITY_NOT_POSITIVE"]
    if request.quantity > QUANTITY_MAX:
        return CODE["QUANTITY_TOO_LARGE"]
    return CODE["OFF_LOT"] if request.quantity % lot else 0


def stop_price(request: Request, tick: int) -> int:
    """NEW and REPLACE of a stop."""
    bad = not 1 <= request.stop_price <= PRICE_MAX or request.stop_price % tick
    return CODE["BAD_STOP_PRICE"] if request.is_stop and bad else 0


def display(request: Request, lot: int) -> int:
    """NEW of an iceberg."""
    shown = request.display_quantity
    bad = shown % lot or shown > request.quantity or too_many_parts(request.quantity, shown)
    return CODE["BAD_DISPLAY_QUANTITY"] if bad else 0


def too_many_parts(quantity: int, shown: int) -> bool:
    """Whether an iceberg that shows so much at a time shows its quantity in too many parts."""
    return shown != 0 and quantity > shown * ICEBERG_PARTS_MAX


def price(request: Request, tick: int) -> int:
    """NEW of a limit order, REPLACE."""
    if request.price <= 0:
        return CODE["PRICE_NOT_POSITIVE"]
    if request.price > PRICE_MAX:
        return CODE["PRICE_TOO_LARGE"]
    return CODE["OFF_TICK"] if request.price % tick else 0
