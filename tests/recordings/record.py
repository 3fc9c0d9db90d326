"""Makes the recording that a version leaves behind for its successors: `record.py NAME`, by `RINGLANE_BINARY` or this tree's build.

Two lives of one sidecar under two clients: every kind of order, cancel and administration at random (the seed is fixed), a lane
that ends by a fault, one whose orders go with it, a killed life and one that stops in order. `NAME.tar.gz` is the journal with its
snapshot, `NAME.json` what the writer itself said of it. To be run whenever the journal's format or the engine's version grows.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))

from daemon import BINARY, Daemon, until  # noqa: E402
from plain_client import SUBMITTED, PlainClient, Refused  # noqa: E402

SYMBOLS, BATCHES = 3, 14
CONFIG = """
[[orders.instruments]]
name = "ONE"
reference_price = 1000
[[orders.instruments]]
name = "TICK"
tick = 5
[[orders.instruments]]
name = "LOT"
tick = 10
lot = 10
reference_price = 5000
[[orders.accounts]]
first = 1
last = 9
position_max = 2000
order_quantity_max = 300
[[orders.accounts]]
first = 10
last = 20
price_collar_bps = 3000
[[orders.accounts]]
first = 21
last = 30
"""


def order(numbers: random.Random, live: list[dict], next_id: int) -> dict:
    """Any request; most make sense."""
    symbol, account = numbers.randint(1, SYMBOLS), numbers.randint(1, 30)
    if live and numbers.random() < 0.3:
        named = numbers.choice(live)
        named = {name: named[name] for name in ("symbol", "account", "client_order_id", "side")}
        op = numbers.choice((2, 2, 3, 4))
        more = {"quantity": 10 * numbers.randint(1, 9), "price": 10 * numbers.randint(95, 105)} if op > 2 else {}
        return {"op": op, **named, **more}
    if numbers.random() < 0.02:
        return {"op": numbers.choice((5, 6)), "symbol": numbers.randint(0, SYMBOLS), "account": account, "flags": 0}
    made = {
        "op": 1,
        "side": numbers.randint(1, 2),
        "order_type": numbers.choice((1, 1, 1, 1, 1, 2, 3, 4)),
        "time_in_force": numbers.choice((1, 1, 1, 2, 3, 4, 5)),
        "flags": numbers.choice((0, 0, 0, 0, 1, 2, 3)),
        "symbol": symbol,
        "account": account,
        "client_order_id": next_id,
        "price": 10 * numbers.randint(95, 105),
        "quantity": 10 * numbers.randint(0 if numbers.random() < 0.1 else 1, 30),
    }
    if made["order_type"] in (2, 3) and numbers.random() < 0.95:
        made["price"], made["flags"] = 0, made["flags"] & 2
        made["time_in_force"] = numbers.choice((2, 3)) if made["order_type"] == 2 else 1
    if made["order_type"] in (3, 4):
        made["stop_price"] = 10 * numbers.randint(95, 105)
    if made["time_in_force"] == 5:
        made["expires_ns"] = time.time_ns() + numbers.randint(50_000_000, 10**12)
    if made["order_type"] == 1 and made["time_in_force"] in (1, 4, 5) and numbers.random() < 0.2:
        made["display_quantity"] = 10
    return made


def batches(lane, numbers: random.Random, ids, live: list[dict], count: int) -> None:
    """Batches of random requests."""
    for _ in range(count):
        requests = [order(numbers, live, next(ids)) for _ in range(numbers.randint(1, 24))]
        known = lane.request.fields
        requests = [{name: value for name, value in request.items() if name in known} for request in requests]
        for request, result in zip(requests, lane.process(requests), strict=True):
            if request["op"] == 1 and result["state"] in (1, 4):
                live.append(request)
        lane.take_events()


def administer(client: PlainClient, what: str, **values: object) -> None:
    """An administrator's act; a version that knows none refuses it."""
    try:
        client.ask(op="admin", what=what, **values)
    except Refused as refused:
        print(f"{what}: {refused}", file=sys.stderr)
        if refused.code == "PROTOCOL":
            raise SystemExit("this version has no administrators") from refused


def first_life(directory: Path, numbers: random.Random, ids, live: list[dict]) -> None:
    """Everything, and then the sidecar is killed."""
    daemon = Daemon(directory, config=CONFIG).ready()
    one, two, three = (PlainClient(daemon.address, name) for name in ("one", "two", "three"))
    lanes = [one.open(64), two.open(64, accounts=[5, 25], cancel_on_disconnect=True), three.open(64, accounts=[1, 4])]
    for _ in range(BATCHES):
        for lane in lanes:
            batches(lane, numbers, ids, live, 1)
    administer(one, "halt", symbol=2)
    batches(lanes[0], numbers, ids, live, 2)
    administer(one, "resume", symbol=0)
    limits = {"symbol": 0, "order_quantity_max": 0, "position_max": 0, "price_collar_bps": 0, "order_notional_max": 0}
    limits |= {"exposure_max": 0, "open_orders_max": 40, "order_rate_max": 0, "group": 3, "self_trade": 1}
    administer(one, "limits", limits={"first": 26, "last": 30, **limits})
    instrument = {"name": "NEW", "price_decimals": 2, "tick": 1, "lot": 1, "reference_price": 0}
    administer(one, "add_instrument", instrument=instrument)
    for lane in lanes:
        batches(lane, numbers, ids, live, 3)
    administer(one, "cancel_all", symbol=3, account=0, lane=0)
    administer(one, "time", ends_day=True)
    # One lane is faulted, one ends with its client and takes its orders along.
    lanes[2].mine[SUBMITTED] = 1 << 40
    lanes[2].ring()
    until(lambda: lanes[2].status != 0, what="the fault")
    batches(lanes[0], numbers, ids, live, 2)
    two.close()
    until(lambda: daemon.status()["clients"] == 2, what="the end of a client")
    batches(lanes[0], numbers, ids, live, 4)
    state, _ = one.query("state")
    one.client = None
    daemon.kill()
    daemon.stderr.close()
    assert daemon.replay()["state_hash"] == state["state_hash"]


def second_life(directory: Path, numbers: random.Random, ids, live: list[dict]) -> dict:
    """More of it behind the recovery, and a stop in order."""
    daemon = Daemon(directory, config=CONFIG).ready()
    time.sleep(0.5)
    client = PlainClient(daemon.address, "later")
    lane = client.open(64)
    lane.process([{"op": 5, "symbol": 0, "account": account} for account in range(1, 31)])
    batches(lane, numbers, ids, live, 12)
    lane.close()
    state, _ = client.query("state")
    client.close()
    until(lambda: daemon.status()["clients"] == 0, what="the end of the client")
    assert daemon.stop() == 0, daemon.words()
    return state


def main() -> None:
    name, ids = sys.argv[1], iter(range(1, 100_000))
    numbers, live = random.Random(7), []
    with tempfile.TemporaryDirectory() as directory:
        first_life(Path(directory), numbers, ids, live)
        state = second_life(Path(directory), numbers, ids, live)
        journal = Path(directory, "journal")
        replayed = json.loads(
            subprocess.run([BINARY, "replay", journal, "--json"], check=True, capture_output=True, text=True).stdout
        )
        assert replayed["state_hash"] == state["state_hash"]
        with gzip.GzipFile(HERE / f"{name}.tar.gz", "wb", 9, mtime=0) as packed, tarfile.open(None, "w", packed) as tar:
            for path in sorted(journal.iterdir()):
                if path.suffix in (".ringlane", ".snapshot"):
                    member = tarfile.TarInfo(path.name)
                    member.size = path.stat().st_size
                    tar.addfile(member, io.BytesIO(path.read_bytes()))
    version = subprocess.run([BINARY, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    kept = ("sequence", "accepted", "rejected", "trades", "resting", "state_hash")
    expected = {"writer": version, **{key: state[key] for key in kept}}
    (HERE / f"{name}.json").write_text(json.dumps(expected, indent=2) + "\n")
    print(json.dumps(expected), (HERE / f"{name}.tar.gz").stat().st_size)


main()
