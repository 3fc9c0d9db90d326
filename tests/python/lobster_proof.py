"""`make test-lobster`: plays every LOBSTER day that is there through a real sidecar, and demands equality.

Reads the zips of `RINGLANE_LOBSTER_DIR` (default `../shared/data/lobster` beside the checkout): per message for every
file, and grouped from 5 levels up. Prints one line a file and mode, and exits with 1 if anything differed. Without the
data it plays small files that it makes itself.

`--parallel` sends every order through the parallel path. A day has one symbol and one order under way at a time, so this
proves that path's own checks, notes and merging on real orders; several threads at once are proven by
`tests/tests/order_parallel.rs`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from ringlane import Sidecar, connect
from ringlane.lobster import LobsterDay, LobsterError, read_day
from ringlane.lobster_lane import LaneVenue, day_config, play_in_sidecar
from ringlane.lobster_player import LobsterReport, play

REPOSITORY = Path(__file__).resolve().parents[2]
#: From this many levels up a day is also played grouped.
GROUPED_LEVELS_MIN = 5
#: Of an unknown file, at most this share of the aggressors may be excepted: 0.2 %.
EXCEPTIONS_PER_AGGRESSORS_MAX = (2, 1000)

Play = Callable[[LobsterDay, bool], LobsterReport]


class Figures(NamedTuple):
    """What a plain book gives for a known file. The exceptions are in the data: fewer is as suspicious as more."""

    rows: int
    aggressors: int
    exceptions: int


KNOWN = {
    ("AMZN", "2012-06-21", 5, "message"): Figures(155_934, 8_974, 9),
    ("AMZN", "2012-06-21", 5, "grouped"): Figures(152_698, 6_591, 12),
    ("AAPL", "2012-06-21", 1, "message"): Figures(118_496, 23_658, 25),
}


def sidecar_play(day: LobsterDay, grouped: bool) -> LobsterReport:
    """Play through a sidecar of its own, with a journal like any other's."""
    with tempfile.TemporaryDirectory(prefix="ringlane-lobster-") as journal:
        return play_in_sidecar(day, grouped, journal=Path(journal) / "journal")[0]


def parallel_play(day: LobsterDay, grouped: bool) -> LobsterReport:
    """The same where every batch, however small, goes through the parallel path; fails if one did not."""
    config = day_config(day)
    config["orders"] |= {"threads": 2, "parallel_batch_min": 1}
    with tempfile.TemporaryDirectory(prefix="ringlane-lobster-") as journal:
        sidecar = Sidecar(journal=Path(journal) / "journal", config=config)
        with sidecar, connect(sidecar.address) as client:
            venue = LaneVenue(client, day.ticker)
            report = play(day, venue, grouped)
            venue.close()
            row = client.stats()["sequencer"]
    in_sequence = {name: count for name, count in row.items() if name.startswith("sequential_") and count}
    if not row["batches_parallel"] or in_sequence:
        raise RuntimeError(f"{row['batches_parallel']} batches were matched in parallel, in sequence {in_sequence}")
    return report


def faults(day: LobsterDay, report: LobsterReport) -> list[str]:
    """Everything that is wrong with a report; nothing if the day was reproduced."""
    found = list(report.differences)
    if not report.good and not found:
        found.append("the report is not good")
    if report.exact != report.rows:
        found.append(f"{report.rows - report.exact} of {report.rows} rows differ")
    figures = Figures(report.rows, report.aggressors, report.exceptions)
    known = KNOWN.get((day.ticker, day.date, day.levels, report.mode))
    if known is not None:
        if figures != known:
            found.append(f"{figures} instead of {known}")
    else:
        parts, whole = EXCEPTIONS_PER_AGGRESSORS_MAX
        if report.exceptions * whole > report.aggressors * parts:
            found.append(f"{report.exceptions} of {report.aggressors} aggressors are excepted; at most 0.2 % may be")
    return found


def prove(paths: Iterable[Path], play_day: Play) -> tuple[int, int]:
    """Play each file in each of its modes and print what came out: how many passed and failed."""
    passed = failed = 0
    for path in paths:
        started = time.perf_counter()
        try:
            day = read_day(path)
        except LobsterError as error:
            print(f"FAILED {error}")
            failed += 1
            continue
        read_seconds = time.perf_counter() - started
        for grouped in (False, True) if day.levels >= GROUPED_LEVELS_MIN else (False,):
            started = time.perf_counter()
            report = play_day(day, grouped)
            seconds = time.perf_counter() - started
            print(report.line, flush=True)
            rate = report.rows / max(seconds, 1e-9)
            share = f"of these {report.book_seconds:.1f} s for {report.rows} book queries"
            print(f"  read {read_seconds:.1f} s, played {seconds:.1f} s, {share}, {rate:,.0f} rows/s", flush=True)
            if (day.ticker, day.date, day.levels, report.mode) not in KNOWN:
                for text in report.exception_texts:
                    print(f"  excepted: {text}")
            wrong = faults(day, report)
            for text in wrong:
                print(f"  FAILED {text}", flush=True)
            failed += bool(wrong)
            passed += not wrong
    return passed, failed


def made_files(folder: Path) -> list[Path]:
    """Small files of the format, for where there is no LOBSTER data."""
    sys.path.insert(0, str(Path(__file__).parent))
    from lobster_made import make_day

    return [make_day(folder / f"made_{levels}.zip", seed=levels, levels=levels) for levels in (1, 5, 10)]


def main(play_day: Play = sidecar_play) -> int:
    """Prove all that is there; the exit code."""
    folder = Path(os.environ.get("RINGLANE_LOBSTER_DIR") or REPOSITORY.parent / "shared" / "data" / "lobster")
    paths = sorted(folder.glob("*.zip")) if folder.is_dir() else []
    skipped = 0
    with tempfile.TemporaryDirectory(prefix="ringlane-made-") as made:
        if not paths:
            print("skipped: no LOBSTER data")
            skipped, paths = 1, made_files(Path(made))
        passed, failed = prove(paths, play_day)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parallel", action="store_true", help="send every order through the parallel path")
    sys.exit(main(parallel_play if parser.parse_args().parallel else sidecar_play))
