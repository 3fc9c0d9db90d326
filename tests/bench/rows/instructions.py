"""What an order costs the kernel, in instructions instead of seconds."""

from __future__ import annotations

from bench import instructions
from bench.row import Bench, Measured, at_most_times, row


@row("instructions_per_order", "instructions", at_most_times(1 + instructions.TOLERANCE, 1.0))
def counted(bench: Bench) -> Measured:
    """Instructions of the order kernel for one order of a fixed flow, against the figure that is committed.

    Counted by callgrind over the kernel as a library, without the exchange; making the orders and filling the books are
    not counted. The same flow, seed and compiler, so the same figure on any machine.
    """
    figure = instructions.count()
    known = instructions.committed()
    value = float(figure["instructions_per_order"])
    reference = float(known["instructions_per_order"]) if known else None
    ratio = value / reference if reference else None
    return Measured(value, "the committed figure", reference, ratio, {"count": figure, "committed": known})
