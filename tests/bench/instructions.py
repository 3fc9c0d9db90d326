"""Instructions that the order kernel runs for one order, counted by callgrind; and the check that they do not creep up.

`python -m bench.instructions` from `tests/` compares with `tests/instructions_per_order.json` and fails beyond 3 %;
with `--write` it sets the figure anew, to be committed with the change that moved it. Counting is repeatable to a
fraction of a percent where seconds are not: the flow is fixed, only `run_flow` is counted, valgrind offers every
program the same processor (no AVX-512), and a figure is only compared with one of the same compiler.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import first_line
from bench.paths import ROOT
from bench.programs import program

FIGURE = ROOT / "tests" / "instructions_per_order.json"
FLOW = {"orders": 100_000, "seed": 1, "batch": 256, "resting": 50_000}
TOLERANCE = 0.03
TIMEOUT_S = 600


def circumstances() -> dict[str, str | None]:
    """What else decides the figure, beside the code."""
    return {"rustc": first_line("rustc", "--version"), "machine": platform.machine()}


def count() -> dict[str, Any]:
    """Runs the flow under callgrind; the figure and what it was counted over."""
    options = [str(word) for name, value in FLOW.items() for word in (f"--{name}", value)]
    callgrind = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*run_flow*"]
    command = [*callgrind, "--callgrind-out-file=/dev/null", str(program("order_flow")), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if collected is None or int(collected[1]) == 0:
        raise RuntimeError(f"callgrind collected nothing: is `run_flow` inlined?\n{done.stderr[-2000:]}")
    figure = round(int(collected[1]) / FLOW["orders"], 1)
    return {"instructions_per_order": figure, "flow": FLOW, **circumstances()}


def committed() -> dict[str, Any] | None:
    """The figure in the work tree, if there is one."""
    if not FIGURE.exists():
        return None
    figure: dict[str, Any] = json.loads(FIGURE.read_text())
    return figure


def skip_reason() -> str | None:
    """Why the figure cannot be compared here; none when it can."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed"
    known = committed()
    if known is None:
        return f"there is no {FIGURE.relative_to(ROOT)} yet"
    for name, value in circumstances().items():
        if known.get(name) != value:
            return f"the committed figure is for {known.get(name)}, this is {value}; set it anew with --write"
    return None


def check() -> tuple[bool, str]:
    """Whether the kernel still runs as many instructions as committed, and in words by how much it differs."""
    known = committed()
    assert known is not None
    before, now = known["instructions_per_order"], count()["instructions_per_order"]
    change = now / before - 1
    words = f"{now} instructions an order, committed {before}: {change:+.2%} (at most ±{TOLERANCE:.0%})"
    return abs(change) <= TOLERANCE, words


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.instructions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed figure (the default)")
    parser.add_argument("--write", action="store_true", help="set the figure anew")
    if parser.parse_args().write:
        figure = count()
        FIGURE.write_text(json.dumps(figure, indent=1) + "\n")
        print(f"{figure['instructions_per_order']} instructions an order, written to {FIGURE.relative_to(ROOT)}")
        return 0
    if reason := skip_reason():
        print(f"skipped: {reason}\n0 passed, 0 failed, 1 skipped")
        return 0
    within, words = check()
    print(words)
    if not within:
        print("If the change is meant, run `python -m bench.instructions --write` and commit the figure.")
    print("1 passed, 0 failed" if within else "0 passed, 1 failed")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
