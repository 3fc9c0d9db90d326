"""What one `lane.call` costs against a peer that only echoes: `python tests/python/measure_call.py [echo_peer program]`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from fake_lane import FakeLane

DEFAULT = Path(__file__).parents[2] / "target" / "release" / "echo_peer"
CALLS, ROUNDS, LOOP = 200_000, 300, 1000


def main() -> None:
    program = sys.argv[1] if len(sys.argv) > 1 else str(DEFAULT)
    peers: list[subprocess.Popen[bytes]] = []

    def start(lane: FakeLane) -> None:
        command = [program, str(lane.requests_fd), str(lane.results_fd), str(lane.depth), str(lane.events)]
        files = (lane.requests_fd, lane.results_fd)
        peers.append(subprocess.Popen(command, pass_fds=files, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert peers[0].stdout is not None
        if not peers[0].stdout.readline():
            raise SystemExit("the echo peer did not start")

    lane = FakeLane(depth=1024, timeout_ns=1_000_000_000, before_seal=start)
    with peers[0]:
        measure(lane)


def measure(lane: FakeLane) -> None:
    call, clock = lane.shim.call, time.perf_counter_ns
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
