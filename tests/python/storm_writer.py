"""A writer of the storm: trades by every way that a lane has, and notes each answer before it asks the next question.

Arguments: address, account, first client order id, seed, file of notes, file whose existence says that it is time to end.
Notes, a line each: `O id sequence code` for an answered order, `E number kind` for an event, `D` at the end.
"""

import asyncio
import os
import random
import sys
import time
from pathlib import Path

import ringlane


def main() -> None:
    address, account, next_id, seed, notes, end = sys.argv[1:]
    numbers = random.Random(int(seed))
    file = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    number = int(next_id)

    def note(lines: list[str]) -> None:
        os.write(file, "".join(line + "\n" for line in lines).encode())

    def connected() -> ringlane.Client:
        """The sidecar may be away just now."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return ringlane.connect(address, reconnect_timeout=60.0)
            except (ringlane.SidecarUnavailable, ringlane.SidecarLost):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    with connected() as client:
        lane = client.open("orders", depth=256, accounts=int(account), timeout=60.0)

        def orders(count: int):
            nonlocal number
            ids = list(range(number, number + count))
            number += count
            sides = [numbers.choice(["BUY", "SELL"]) for _ in ids]
            prices = [1_000_000 + 100 * numbers.randrange(20) for _ in ids]
            return lane.batch(
                symbol=1, side=sides, client_order_id=ids, price=prices, quantity=1 + numbers.randrange(5)
            )

        def answered(results) -> None:
            note([f"O {int(r['client_order_id'])} {int(r['sequence'])} {int(r['code'])}" for r in results])

        while not Path(end).exists():
            way = numbers.randrange(4)
            if way == 0:
                fields = [
                    int(orders(1)[name][0]) for name in lane.request_dtype.names if not name.startswith("reserved")
                ]
                answer = dict(
                    zip((field.name for field in lane.result_schema.visible), lane.call(*fields), strict=True)
                )
                answered([answer])
            elif way == 1:
                answered(lane.process(orders(numbers.randrange(1, 60)), copy=True))
            elif way == 2:
                tickets = [lane.submit(orders(numbers.randrange(1, 40))) for _ in range(3)]
                for ticket in tickets:
                    answered(ticket.result(timeout=60.0))
                    del ticket
                del tickets
            else:

                async def awaited() -> None:
                    answered(await asyncio.wait_for(lane.submit(orders(numbers.randrange(1, 40))), 60.0))

                asyncio.run(awaited())
            note([f"E {int(event['number'])} {int(event['kind'])}" for event in lane.events(0)])
        note(["D"])


if __name__ == "__main__":
    main()
