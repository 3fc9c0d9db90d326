"""A clean stop: SIGTERM under load drains what was submitted, leaves a snapshot of all of it, and exits 0 in time."""

import contextlib
import re
import signal
import time

import numpy as np
import ringlane
from daemon import Daemon

LANES, TICKETS, ORDERS = 3, 8, 1000
LIMIT_S = 10
"""The unit gives a stop 60 s; a full stop of three busy lanes takes less than one."""


def test_sigterm_under_load_drains_snapshots_and_exits_in_time(tmp_path):
    daemon = Daemon(tmp_path).ready()
    with contextlib.ExitStack() as stack:
        lanes = []
        for account in range(1, LANES + 1):
            client = stack.enter_context(ringlane.connect(daemon.address, reconnect_timeout=20.0))
            lanes.append(client.open("orders", depth=8192, accounts=account, timeout=20.0))
        tickets = []
        for number in range(TICKETS):
            for account, lane in enumerate(lanes, 1):
                ids = np.arange(1 + number * ORDERS, 1 + (number + 1) * ORDERS)
                price = 1_000_000 - 100 * account
                batch = lane.batch(symbol=1, side=1, account=account, client_order_id=ids, price=price, quantity=1)
                tickets.append(lane.submit(batch))
        begin = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(LIMIT_S) == 0, daemon.words()
        assert time.monotonic() - begin < LIMIT_S
        daemon.stderr.close()
        # All of it was submitted before, so all of it has happened and is answered, also without a sidecar.
        for ticket in tickets:
            assert (ticket.result(timeout=20)["code"] == 0).all()
        del ticket, tickets
        whole = LANES * TICKETS * ORDERS
        stopped = re.findall(r"stopped sequence=(\d+) state_hash=\"(\w+)\"", daemon.words())[-1]
        newest = max(int(path.stem) for path in (tmp_path / "journal").glob("*.snapshot"))
        assert newest == int(stopped[0])
        replayed = daemon.replay()
        assert (replayed["accepted"], replayed["resting"], replayed["state_hash"]) == (whole, whole, stopped[1])
        # The next start has nothing to replay, and its clients go on.
        before = len(daemon.words())
        daemon = Daemon(tmp_path).ready()
        assert re.search(rf"recovered records=0 snapshot={newest} sequence={newest} ", daemon.words()[before:])
        order = lanes[0].batch(symbol=1, side=1, account=1, client_order_id=1 << 40, price=999_900, quantity=1)
        assert lanes[0].process(order)["code"][0] == 0
    assert daemon.stop() == 0
