"""The Debian package for tests: this tree's own, and a later version whose daemon is another build."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ringlane._shim import BUILD_HASH

ROOT = Path(__file__).parents[2]
#: What the later package's daemon says that it is.
LATER_BUILD = "1a7e41a7e41a7e41"


def make(files: Path) -> Path:
    """Puts `ringlane.deb`, `later.deb` and what drives them into `files`; gives `files`."""
    for package in Path(_built().name).glob("*.deb"):
        shutil.copy(package, files)
    for source in ("systemd/trader.py", "systemd/live_trader.py", "python/plain_client.py"):
        shutil.copy(ROOT / "tests" / source, files)
    return files


@functools.cache
def _built() -> tempfile.TemporaryDirectory:
    """Both packages, made once in a run."""
    packages = tempfile.TemporaryDirectory(prefix="ringlane-packages-")
    subprocess.run(["make", "--silent", "deb"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=900)
    built = max((ROOT / "target/debian").glob("ringlane_*.deb"), key=lambda path: path.stat().st_mtime)
    shutil.copy(built, Path(packages.name, "ringlane.deb"))
    with tempfile.TemporaryDirectory() as directory:
        later = Path(directory)
        subprocess.run(["dpkg-deb", "-R", str(built), directory], check=True, timeout=60)
        control = later / "DEBIAN/control"
        control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 99.0.0-1", control.read_text()))
        make_another_build(later / "usr/bin/ringlane")
        command = ["dpkg-deb", "-b", "--root-owner-group", "-Znone", directory, f"{packages.name}/later.deb"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return packages


def make_another_build(binary: Path) -> None:
    """Exchanges the build hash in the program, which is otherwise the same: what another build of a layout is to clients."""
    data = binary.read_bytes()
    assert BUILD_HASH.encode() in data
    binary.write_bytes(data.replace(BUILD_HASH.encode(), LATER_BUILD.encode()))
