"""The Rust programs that benchmarks run, built when they are not fresh."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from bench.paths import ROOT, TARGET


@functools.cache
def program(name: str) -> Path:
    """The path of a program of `tests/src/bin`."""
    build = ["cargo", "build", "--release", "--quiet", "--package", "ringlane-tests", "--bin", name]
    subprocess.run(build, cwd=ROOT, check=True)
    return TARGET / "release" / name
