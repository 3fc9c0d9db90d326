"""What the machine allows at best: runs `tests/src/bin/limits.rs`, which prints one line of JSON a limit."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from bench.programs import program
from bench.row import Bench


def limit(bench: Bench, name: str, **options: object) -> dict[str, Any]:
    """Measures one limit on the bench's two cores."""
    arguments = [str(word) for key, value in options.items() for word in (f"--{key.replace('_', '-')}", value)]
    cores = ["--client-cpu", str(bench.client_cpu), "--server-cpu", str(bench.sidecar_cpu)]
    done = subprocess.run(
        [program("limits"), *cores, name, *arguments], check=True, capture_output=True, text=True, timeout=300
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
