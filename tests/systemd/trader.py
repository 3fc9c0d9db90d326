"""Trades a little through a sidecar with nothing but the standard library, and says as JSON what came of it.

trader.py SOCKET FIRST_ID COUNT   places COUNT resting orders with client order ids from FIRST_ID on.
"""

import json
import sys

from plain_client import PlainClient


def main() -> None:
    address, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        client = PlainClient(address, "trader")
    except OSError as error:
        print(json.dumps({"refused": error.strerror or "closed"}))
        return
    lane = client.open(64)
    order = {
        "op": 1,
        "side": 1,
        "order_type": 1,
        "time_in_force": 1,
        "symbol": 1,
        "account": 7,
        "price": 1_000_000,
        "quantity": 1,
    }
    results = lane.process([{**order, "client_order_id": first + index} for index in range(count)])
    _, resting = client.query("orders", account=7)
    answer = {"states": sorted({result["state"] for result in results}), "resting": len(resting)}
    print(json.dumps({**answer, "sequence": results[-1]["sequence"]}))


main()
