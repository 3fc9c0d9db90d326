"""A worker that trades through a sidecar for as long as it is wanted, and notices nothing but time when that is started anew.

live_trader.py SOCKET ACCOUNT SEED NOTES END   trades by every way that a lane has until the file END exists; each answer and
event is a line of NOTES before the next question is asked:
`O id sequence code signed-filled` an answered order, `E number kind signed-quantity sequence k` an event, `D net` at the end.
"""

import asyncio
import os
import random
import sys
import time
import warnings
from pathlib import Path

import ringlane
from ringlane import EventKind, Side

PATIENCE_SECONDS = 60.0


def main() -> None:
    address, account, seed, notes, end = sys.argv[1:]
    numbers, next_id = random.Random(int(seed)), iter(range(1, 1 << 62))
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(lines: list[str]) -> None:
        os.write(file, "".join(line + "\n" for line in lines).encode())

    # Whatever Ringlane wants to say to somebody fails the test, but for another build at the very beginning.
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="the sidecar is build")
    with ringlane.connect(address, reconnect_timeout=PATIENCE_SECONDS) as client:
        lane = client.open("orders", depth=256, events=65_536, accounts=int(account), timeout=PATIENCE_SECONDS)

        def orders(count: int):
            sides = [numbers.choice([Side.BUY, Side.SELL]) for _ in range(count)]
            batch = lane.batch(
                symbol=1,
                side=sides,
                account=int(account),
                client_order_id=[next(next_id) for _ in sides],
                price=[1_000_000 + 100 * numbers.randrange(20) for _ in sides],
                quantity=[1 + numbers.randrange(5) for _ in sides],
            )
            return batch

        def answered(requests, results) -> None:
            lines = []
            for request, result in zip(requests, results, strict=True):
                assert request["client_order_id"] == result["client_order_id"]
                sign = 1 if request["side"] == Side.BUY else -1
                words = (
                    result["client_order_id"],
                    result["sequence"],
                    result["code"],
                    sign * int(result["filled_quantity"]),
                )
                lines.append("O " + " ".join(str(int(word)) for word in words))
            note(lines)

        def take_events() -> None:
            lines = []
            for event in lane.events(0):
                sign = 1 if event["side"] == Side.BUY else -1
                quantity = (
                    sign * int(event["quantity"]) if event["kind"] in (EventKind.FILL, EventKind.TAKER_FILL) else 0
                )
                lines.append(f"E {event['number']} {event['kind']} {quantity} {event['sequence']} {event['k']}")
            note(lines)

        def by_call() -> None:
            batch = orders(1)
            answer = lane.call(
                *(int(batch[name][0]) for name in lane.request_dtype.names if not name.startswith("reserved"))
            )
            answered(batch, [dict(zip((field.name for field in lane.result_schema.visible), answer, strict=True))])

        def by_batch() -> None:
            batch = orders(numbers.randrange(1, 60))
            answered(batch, lane.process(batch, copy=True))

        def by_tickets() -> None:
            batches = [orders(numbers.randrange(1, 40)) for _ in range(3)]
            tickets = [lane.submit(batch) for batch in batches]
            while tickets:
                answered(batches.pop(0), tickets.pop(0).result(timeout=PATIENCE_SECONDS))

        def by_await() -> None:
            async def ask() -> None:
                batch = orders(numbers.randrange(1, 40))
                answered(batch, await asyncio.wait_for(lane.submit(batch), PATIENCE_SECONDS))

            asyncio.run(ask())

        print("trading", flush=True)
        while not Path(end).exists():
            numbers.choice([by_call, by_batch, by_tickets, by_await])()
            take_events()
            time.sleep(0.0005)  # under load, with room for what else this machine does
        # Others trade on: what is left is cancelled, and then its position stands still.
        lane.process(
            lane.batch(op="CANCEL_ALL", symbol=0, account=int(account), side="BUY", price=0, quantity=0), copy=True
        )
        take_events()
        positions = client.positions(int(account)).positions
        note([f"D {sum(int(row['net_quantity']) for row in positions)}"])


if __name__ == "__main__":
    main()
