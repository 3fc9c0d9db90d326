"""Which machine, which versions and which commit a report is about."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.paths import ROOT


def first_line(*command: str) -> str | None:
    """First line of what a command prints; none where it cannot be run."""
    try:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip()


def processor() -> str:
    """Model name by /proc/cpuinfo."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def file_system(directory: Path) -> str:
    """Type of the file system on which recordings are made."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        if str(directory).startswith(mount) and len(mount) > len(best):
            best, kind = mount, name
    return kind


def package(name: str) -> str | None:
    """Version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine(scratch: Path) -> dict[str, Any]:
    """Everything that a reader needs to judge the figures."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "memory_bytes": int(memory.split()[1]) * 1024,
        "kernel": platform.release(),
        "recording_file_system": file_system(scratch.resolve()),
        "python": platform.python_version(),
        "numpy": package("numpy"),
        "ringlane": package("ringlane"),
        "rustc": first_line("rustc", "--version"),
        "commit": first_line("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "load_at_start": os.getloadavg()[0],
    }
