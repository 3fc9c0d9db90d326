"""Measures the rows, prints the table, writes report.json and the pages. Exit 0: every row asked for was measured."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bench.rows  # noqa: F401  (enters every row)
from bench import page, report
from bench.limits import limit
from bench.machine import machine
from bench.paths import OUTPUT
from bench.row import ROWS, Bench, Row

PAIRS_MIN = 5


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=list(ROWS), help="measure this row (again: these) and merge"
    )
    parser.add_argument("--pairs", type=int, default=PAIRS_MIN, help=f"interleaved pairs a row, at least {PAIRS_MIN}")
    parser.add_argument("--quick", action="store_true", help="one small pair a row: shows that it runs, not how fast")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the report (default: %(default)s)")
    parser.add_argument("--client-cpu", type=int, default=0, help="core of the asking side")
    parser.add_argument("--sidecar-cpu", type=int, default=1, help="core of the sidecar and of every peer's server")
    parser.add_argument("--list", action="store_true", help="name the rows and what they measure")
    parser.add_argument("--page", action="store_true", help="only draw the pages again from report.json")
    return parser.parse_args(words)


def describe(row: Row) -> str:
    return f"{row.name}\n    {(row.measure.__doc__ or '').strip()}\n"


def measure(rows: list[Row], run: Bench, results: report.Report, path: Path) -> list[str]:
    """Measures one row after the other, saving after each; gives the names of those that failed."""
    failed = []
    for number, row in enumerate(rows, 1):
        print(f"[{number}/{len(rows)}] {row.name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            measured = row.measure(run)
        except Exception:  # One row that cannot be measured must not cost the others.
            failed.append(row.name)
            print("failed", file=sys.stderr)
            traceback.print_exc()
            continue
        result = row.result(measured)
        print(report.quantity(result["value"], row.unit), result["reached"] or "", file=sys.stderr, flush=True)
        report.merge(results, result, measured.details)
        report.save(results, path)
    return failed


def main(words: list[str] | None = None) -> int:
    options = arguments(words)
    if options.list:
        print("\n".join(describe(row) for row in ROWS.values()))
        return 0
    if options.pairs < PAIRS_MIN and not options.quick:
        print(f"--pairs must be {PAIRS_MIN} at least; --quick is for trying things", file=sys.stderr)
        return 2
    path = options.output / "report.json"
    results = report.load(path)
    failed: list[str] = []
    if not options.page:
        run = Bench(
            scratch=options.output / "scratch",
            pairs=1 if options.quick else options.pairs,
            quick=options.quick,
            client_cpu=options.client_cpu,
            sidecar_cpu=options.sidecar_cpu,
        )
        results["machine"] = machine(options.output) | {"pairs": run.pairs, "quick": run.quick}
        # How near the two cores are to each other; on a virtual machine the host may change it from minute to minute.
        results["machine"]["cache_line_ns"] = limit(run, "cache-line")["p50_ns"]
        failed = measure([ROWS[name] for name in options.only or ROWS], run, results, path)
    if results["rows"]:
        print(report.table(results["rows"]))
        page.write(results, options.output)
        print(f"\nWritten: {path}, report.html, report.svg")
    if failed:
        print(f"Not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
