"""What the machine allows at best: runs `tests/src/bin/limits.rs`, which prints one line of JSON a limit."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from bench.paths import ROOT, TARGET
from bench.row import Bench


@functools.cache
def program(name: str = "limits") -> Path:
    """The path of a program of `tests/src/bin`, built by cargo when it is not fresh."""
    build = ["cargo", "build", "--release", "--quiet", "--package", "ringlane-tests", "--bin", name]
    subprocess.run(build, cwd=ROOT, check=True)
    return TARGET / "release" / name


def limit(bench: Bench, name: str, **options: object) -> dict[str, Any]:
    """Measures one limit on the bench's two cores."""
    arguments = [str(word) for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    cores = ["--client-cpu", str(bench.client_cpu), "--server-cpu", str(bench.sidecar_cpu)]
    done = subprocess.run([program(), *cores, name, *arguments], check=True, capture_output=True, text=True, timeout=300)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
