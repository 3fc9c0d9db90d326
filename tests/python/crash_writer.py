"""A writer that kills itself at a named step, between two lines of its own.

Arguments: address, step, process id of the sidecar. Five orders rest first; then ten more are sent, as far as the step lets
them, in a lane that cancels on disconnect. `both-STEP` kills the sidecar too: stopped before anything is published, or
after the answer. The other steps are those of coming back: it kills the sidecar, and itself where it notices.
"""

import os
import signal
import sys
import time

import ringlane
from daemon import freeze, new_order
from plain_client import PlainClient
from ringlane.reattach import Reattacher

STEPS = ("claim", "fill", "publish", "doorbell", "wait", "read", "release")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def orders(first: int, count: int) -> list[dict]:
    return [new_order(9, first + n, 1, 1, 1_000_000 + 100 * n) for n in range(count)]


def step_by_step(address: str, step: str, sidecar: int | None) -> None:
    """Written down here in single steps: claim, fill, publish, ring, wait, read, release."""
    lane = PlainClient(address).open(64, cancel_on_disconnect=True)
    lane.process(orders(1, 5))

    def at(name: str) -> None:
        if name == step:
            if sidecar is not None:
                os.kill(sidecar, signal.SIGKILL)
            die()

    if sidecar is not None and step in STEPS[:4]:
        freeze(sidecar)
    batch = orders(101, 10)
    at("claim")
    lane.fill(batch)
    at("fill")
    if step == "publish":
        # The store alone, without the doorbell.
        lane.mine[16] = lane.submitted + len(batch)
        at("publish")
    lane.publish(len(batch))
    lane.ring()
    at("doorbell")
    lane.wait(lane.submitted)
    at("wait")
    codes = [lane.read(slot)["code"] for slot in range(5, 15)]
    assert codes == [0] * 10, codes
    at("read")
    lane.release(lane.submitted)
    at("release")


def come_back(address: str, step: str, sidecar: int) -> None:
    connect, attach = Reattacher._connect, Reattacher._attach

    def dying_connect(self: Reattacher, *arguments: object) -> bool:
        if step == "reconnect":
            die()
        done = connect(self, *arguments)
        if step == "reattached":
            die()
        return done

    def dying_attach(self: Reattacher, *arguments: object) -> None:
        if step == "attach-before":
            die()
        attach(self, *arguments)
        if step == "attach-after":
            die()

    Reattacher._connect, Reattacher._attach = dying_connect, dying_attach
    client = ringlane.connect(address, reconnect_timeout=30.0)
    lane = client.open("orders", depth=64, cancel_on_disconnect=True)
    batch = lane.batch(symbol=1, side="BUY", account=9, client_order_id=range(1, 6), price=1_000_000, quantity=1)
    assert not lane.process(batch, copy=True)["code"].any()
    os.kill(sidecar, signal.SIGKILL)
    time.sleep(30)


def main() -> None:
    address, step, sidecar = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if step in STEPS:
        step_by_step(address, step, None)
    elif step.removeprefix("both-") in STEPS:
        step_by_step(address, step.removeprefix("both-"), sidecar)
    else:
        come_back(address, step, sidecar)


if __name__ == "__main__":
    main()
