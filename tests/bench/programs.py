"""The Rust programs that benchmarks run, built when they are not fresh."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from bench.paths import OUTPUT, ROOT, TARGET


@functools.cache
def program(name: str) -> Path:
    """The path of a program of `tests/src/bin`."""
    build = ["cargo", "build", "--release", "--quiet", "--package", "ringlane-tests", "--bin", name]
    subprocess.run(build, cwd=ROOT, check=True)
    return TARGET / "release" / name


@functools.cache
def sidecars_with_and_without_traces() -> tuple[Path, Path]:
    """The daemon as it is shipped, and one into which no tracing is compiled; both from one build of what they share."""
    made = []
    for name, features in (
        ("ringlane-untraced", ["--no-default-features", "--features", "sentry"]),
        ("ringlane-traced", []),
    ):
        build = [
            "cargo",
            "build",
            "--release",
            "--quiet",
            "--package",
            "ringlane-sidecar",
            "--bin",
            "ringlane",
            *features,
        ]
        subprocess.run(build, cwd=ROOT, check=True)
        OUTPUT.mkdir(parents=True, exist_ok=True)
        made.append(OUTPUT / name)
        shutil.copy2(TARGET / "release" / "ringlane", made[-1])
    return made[1], made[0]
