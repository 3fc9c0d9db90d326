"""`make test`: runs every check in turn, shows its output, and closes with one line that counts them all.

A check counts as its own tests where it has some (cargo test, pytest, the LOBSTER proof) and as one test otherwise.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)
PYTEST_RESULT = re.compile(r"^=* ?((?:\d+ \w+,? ?)+) in [\d.]+s", re.MULTILINE)
PLAIN_RESULT = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


@dataclass
class Count:
    """Tests that passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


@dataclass
class Check:
    """One command of the test run."""

    name: str
    command: list[str]
    env: dict[str, str] | None = None
    cwd: Path = ROOT


def checks() -> list[Check]:
    """Everything that `make test` runs, cheap checks first."""
    loom = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(ROOT / "target" / "loom")}
    python = sys.executable
    return [
        Check("rustfmt", ["cargo", "fmt", "--all", "--check"]),
        Check("ruff format", [str(BIN / "ruff"), "format", "--check", "python", "tests"]),
        Check("ruff", [str(BIN / "ruff"), "check", "python", "tests"]),
        Check("clippy", ["cargo", "clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Check("rust tests", ["cargo", "test", "--quiet", "--workspace", "--no-fail-fast"]),
        Check("loom", ["cargo", "test", "--quiet", "--release", "-p", "ringlane-layout", "--test", "loom"], env=loom),
        Check("mypy", [python, "-m", "mypy", "--config-file", "python/pyproject.toml", "python/ringlane"]),
        Check("type stubs", [python, "-m", "mypy.stubtest", "ringlane._shim"], cwd=ROOT / "tests"),
        Check("python tests", [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/python"]),
        Check(
            "docstring examples",
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", "--pyargs", "ringlane"],
        ),
        Check(
            "sift vectors",
            ["cargo", "run", "--quiet", "--release", "-p", "ringlane-tests", "--bin", "vectors", "proof"],
        ),
        Check("lobster", [python, "tests/python/lobster_proof.py"]),
        Check("instructions an order", [python, "-m", "bench.instructions", "--check"], cwd=ROOT / "tests"),
    ]


def counted(output: str, code: int) -> Count:
    """What a check's output says of its tests; one test when it says nothing."""
    total = Count()
    for passed, failed, ignored in CARGO_RESULT.findall(output):
        total += Count(int(passed), int(failed), int(ignored))
    for summary in PYTEST_RESULT.findall(output):
        words = {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", summary)}
        total += Count(words.get("passed", 0), words.get("failed", 0) + words.get("error", 0), words.get("skipped", 0))
    for passed, failed, skipped in PLAIN_RESULT.findall(output):
        total += Count(int(passed), int(failed), int(skipped or 0))
    if total == Count():
        skipped = int("skipped:" in output)
        return Count(int(code == 0 and not skipped), int(code != 0), skipped)
    if code != 0 and total.failed == 0:
        total.failed = 1
    return total


def run(check: Check) -> Count:
    """Runs one check with its output shown as it comes."""
    print(f"--- {check.name}: {' '.join(check.command)}", flush=True)
    started = time.monotonic()
    env = {**os.environ, **(check.env or {})}
    lines = []
    with subprocess.Popen(
        check.command,
        cwd=check.cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    count = counted("".join(lines), process.returncode)
    verdict = "FAILED" if count.failed else "ok"
    print(f"--- {check.name}: {verdict}, {time.monotonic() - started:.0f} s", flush=True)
    return count


def main() -> int:
    """Runs the checks and prints the closing line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the checks whose name contains this")
    only = parser.parse_args().only
    total = Count()
    failed = []
    for check in checks():
        if only and only not in check.name:
            continue
        count = run(check)
        total += count
        if count.failed:
            failed.append(check.name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
