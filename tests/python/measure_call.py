"""What one `lane.call` costs against a peer that only echoes: `python tests/python/measure_call.py [echo_peer program]`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from fake_lane import shim_lane
from ringlane import _shim

DEFAULT = Path(__file__).parents[2] / "target" / "release" / "echo_peer"
CALLS, ROUNDS, LOOP = 200_000, 300, 1000


def main() -> None:
    program = sys.argv[1] if len(sys.argv) > 1 else str(DEFAULT)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        requests, results = (f"/proc/{peer.pid}/fd/{number}" for number in peer.stdout.readline().split())
        ours, theirs = socket.socketpair()  # nobody sleeps here: the lane's notify socket stays silent
        lane = shim_lane(
            _shim.Hub(theirs.detach()),
            (os.open(requests, os.O_RDWR), os.open(results, os.O_RDONLY), os.memfd_create("doorbell")),
            depth=1024,
            events=64,
            timeout_ns=1_000_000_000,
        )
        measure(lane)
        ours.close()


def measure(lane: _shim.Lane) -> None:
    call, clock = lane.call, time.perf_counter_ns
    timer = sorted(-(clock() - clock()) for _ in range(10_000))[5000]
    single = []
    for _ in range(CALLS):
        begin = clock()
        call(1, 1, 1, 1, 1, 7, 0, 99, 1_500_000, 100)
        single.append(clock() - begin)
    single.sort()
    loops = []
    for _ in range(ROUNDS):
        begin = clock()
        for _ in range(LOOP):
            call(1, 1, 1, 1, 1, 7, 0, 99, 1_500_000, 100)
        loops.append((clock() - begin) / LOOP)
    loops.sort()
    print(
        f"one call, 10 fields there and 9 back: p10 {single[CALLS // 10] - timer} ns, p50 {single[CALLS // 2] - timer} ns"
    )
    print(f"in a loop: best {loops[0]:.0f} ns, p50 {loops[ROUNDS // 2]:.0f} ns (timer of {timer} ns taken off above)")


if __name__ == "__main__":
    main()
