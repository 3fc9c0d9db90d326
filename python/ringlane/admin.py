"""What administrators do to a running sidecar: each act is a numbered record of the journal, and a replay repeats it.

From a shell: `ringlane admin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .enums import SelfTrade
from .queries import Rows
from .schema import Schema
from .wire import close_all, read_rows


@dataclass(frozen=True)
class Rules:
    """The rules of the desk after the record `sequence`; `ringlane admin show` tells the same.

    `instruments`: a row each (symbol, name, price_decimals, tick, lot, reference_price). `halted`: symbol numbers, uint32. `limits`:
    a row each range of accounts (account_first, account_last, the limits by the names of `limits`, 0 for none, group, self_trade);
    those with a `symbol` other than 0 hold in it beside the accounts' own. `resting_orders_max`: most orders that may rest.
    """

    sequence: int
    instruments: Rows
    halted: np.ndarray[Any, np.dtype[np.uint32]]
    limits: Rows
    resting_orders_max: int

    def of(self, account: int, symbol: int = 0) -> np.void | None:
        """The limits of an account; with `symbol`, those that it has in it beside its own. None: it has none, or does not exist."""
        held = self.limits[self.limits["symbol"] == symbol]
        found = held[(held["account_first"] <= account) & (account <= held["account_last"])]
        return found[0] if len(found) else None

    @property
    def groups(self) -> dict[int, list[tuple[int, int]]]:
        """Account groups other than 0, each with its ranges of accounts (first, last)."""
        groups: dict[int, list[tuple[int, int]]] = {}
        for row in self.limits[self.limits["group"] != 0]:
            groups.setdefault(int(row["group"]), []).append((int(row["account_first"]), int(row["account_last"])))
        return groups


class _Asks(Protocol):
    def request(self, **message: Any) -> tuple[dict[str, Any], list[int]]: ...


class Admin:
    """An administrator's hands on a sidecar: `client.admin`.

    For administrators: without access rules the sidecar's own user and root. Symbols are numbers (`client.symbols[name]`).
    Every method raises `NotPermitted`, `SidecarUnavailable` (stopping), `ValueError` (a value is out of its range, or names what
    does not exist), `SidecarLost`, `TimeoutError`.
    """

    def __init__(self, control: _Asks) -> None:
        self._control = control
        self._rows: dict[str, Schema] = {}  # schemas of rows, as the sidecar tells them

    def _ask(self, what: str, **values: Any) -> int:
        reply, _ = self._control.request(op="admin", what=what, **values)
        return int(reply["count"])

    def show(self) -> Rules:
        """Instruments, halts and limits in force, all after one record of the journal.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     client.admin.limits(7, 9, position_max=50, group=3)
        ...     client.admin.halt(2)
        ...     rules = client.admin.show()
        ...     rules.halted.tolist(), rules.groups, int(rules.of(8)["position_max"])
        ([2], {3: [(7, 9)]}, 50)
        """
        reply, files = self._control.request(op="query", what="rules")
        dtypes = [self._rows["Instrument"].dtype, np.dtype("<u4"), self._rows["AccountLimits"].dtype]
        counts = [reply["instruments"], reply["halted"], reply["rows"]]
        sizes = [count * dtype.itemsize for count, dtype in zip(counts, dtypes, strict=True)]
        try:
            data = read_rows(files[0], sum(sizes))
        finally:
            close_all(files)
        starts = [0, sizes[0], sizes[0] + sizes[1]]
        instruments, halted, limits = (
            np.frombuffer(data[start : start + size], dtype)
            for start, size, dtype in zip(starts, sizes, dtypes, strict=True)
        )
        return Rules(reply["sequence"], instruments, halted, limits, reply["resting_orders_max"])

    def limits(
        self,
        first: int,
        last: int | None = None,
        *,
        symbol: int = 0,
        order_quantity_max: int = 0,
        position_max: int = 0,
        price_collar_bps: int = 0,
        order_notional_max: int = 0,
        exposure_max: int = 0,
        open_orders_max: int = 0,
        order_rate_max: int = 0,
        group: int = 0,
        self_trade: SelfTrade | int = 0,
    ) -> None:
        """Makes the accounts `first` to `last` exist with these limits; with `symbol`, gives them limits in it beside their own.

        All limits of the range are replaced; 0 is none. Quantities in lots of 1, notional and exposure in price units x
        quantity, the collar in basis points of the last trade, the rate in orders a second of sequenced time. `group` and
        `self_trade` say whose trades with each other are prevented, and how. The limits hold behind a restart too, until they are
        set anew, or the configuration file's entry for these accounts is changed: the last decision wins.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     client.admin.limits(7, order_quantity_max=10)
        ...     lane = client.open("orders", depth=64)
        ...     order = lane.batch(symbol="AAPL", side="BUY", account=7, client_order_id=1, price="10", quantity=11)
        ...     ringlane.explain(lane.process(order, copy=True)[0])
        "ORDER_SIZE_LIMIT (301): The quantity is above the account's limit for one order."
        """
        limits = {
            "first": int(first),
            "last": int(first if last is None else last),
            "symbol": int(symbol),
            "order_quantity_max": int(order_quantity_max),
            "position_max": int(position_max),
            "price_collar_bps": int(price_collar_bps),
            "order_notional_max": int(order_notional_max),
            "exposure_max": int(exposure_max),
            "open_orders_max": int(open_orders_max),
            "order_rate_max": int(order_rate_max),
            "group": int(group),
            "self_trade": int(self_trade),
        }
        self._ask("limits", limits=limits)

    def halt(self, symbol: int = 0) -> None:
        """Halts a symbol, or all (0): orders can be cancelled and reduced, not entered or replaced. Auctions are not included."""
        self._ask("halt", symbol=int(symbol))

    def resume(self, symbol: int = 0) -> None:
        """Ends the halt of a symbol, or of all (0)."""
        self._ask("resume", symbol=int(symbol))

    def cancel_all(self, *, symbol: int = 0, account: int = 0, lane: int = 0) -> int:
        """Cancels the orders and waiting stops of a symbol, account and owner lane, as far as each is given; says how many."""
        return self._ask("cancel_all", symbol=int(symbol), account=int(account), lane=int(lane))

    def disconnect(self, lane: int) -> None:
        """Ends a lane; what it submitted is completed first, and its client sees `LaneStatus.DISCONNECTED`."""
        self._ask("disconnect", lane=int(lane))

    def add_instrument(
        self, name: str, *, price_decimals: int = 4, tick: int = 1, lot: int = 1, reference_price: int = 0
    ) -> int:
        """Adds an instrument behind the others and gives its symbol number. `client.symbols` of open clients stay as they were."""
        numbers = {"price_decimals": int(price_decimals), "tick": int(tick), "lot": int(lot)}
        instrument = {"name": name, **numbers, "reference_price": int(reference_price)}
        return self._ask("add_instrument", instrument=instrument)

    def end_day(self) -> int:
        """Ends the trading day by a time record: DAY orders expire. Gives the sequenced time, nanoseconds since 1970."""
        return self._ask("time", ends_day=True)

    def tell_time(self) -> int:
        """Has a time record written now. Gives the sequenced time, nanoseconds since 1970."""
        return self._ask("time", ends_day=False)
