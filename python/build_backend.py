"""How `pip` builds Ringlane: maturin builds the shim, and this adds the daemon, so that a wheel and a source archive hold both.

It needs a Rust toolchain only where it compiles; a wheel that is there already is installed without one.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import maturin
from maturin import (  # noqa: F401
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
)

HERE = Path(__file__).resolve().parent
# In a checkout the workspace is the directory above; in a source archive it is this one.
WORKSPACE = HERE if (HERE / "sidecar").is_dir() else HERE.parent


def build_daemon() -> None:
    """Builds the daemon and puts it where maturin takes a wheel's scripts from."""
    if shutil.which("cargo") is None:
        raise SystemExit(
            "ringlane is built by Rust's cargo, which is not on the PATH: install Rust, or a ringlane wheel"
        )
    command = ["cargo", "build", "--release", "-p", "ringlane-sidecar"]
    subprocess.run(command, cwd=WORKSPACE, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", WORKSPACE / "target"))
    scripts = HERE / "wheel-data" / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    shutil.copy2(target / "release" / "ringlane", scripts / "ringlane")


def prepare_metadata_for_build_wheel(directory: str, config: dict | None = None) -> str:
    (HERE / "wheel-data").mkdir(exist_ok=True)
    return maturin.prepare_metadata_for_build_wheel(directory, config)


def build_wheel(directory: str, config: dict | None = None, metadata: str | None = None) -> str:
    build_daemon()
    return maturin.build_wheel(directory, config, metadata)


def build_editable(directory: str, config: dict | None = None, metadata: str | None = None) -> str:
    build_daemon()
    return maturin.build_editable(directory, config, metadata)


def build_sdist(directory: str, config: dict | None = None) -> str:
    """maturin's archive of the shim and what it needs, and the daemon's sources beside them."""
    (HERE / "wheel-data").mkdir(exist_ok=True)
    name = maturin.build_sdist(directory, config)
    path = Path(directory, name)
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member)) for member in archive.getmembers()]
        entries = {member.name: stream.read() for member, stream in members if stream is not None}
    top = name.removesuffix(".tar.gz")
    # maturin leaves out the workspace members that the shim does not need.
    manifest = (WORKSPACE / "Cargo.toml").read_text().replace(', "tests"]', "]")
    entries[f"{top}/Cargo.toml"] = manifest.encode()
    entries[f"{top}/build_backend.py"] = Path(__file__).read_bytes()
    for source in sorted((WORKSPACE / "sidecar").rglob("*")):
        if source.is_file():
            entries[f"{top}/sidecar/{source.relative_to(WORKSPACE / 'sidecar')}"] = source.read_bytes()
    with tarfile.open(path, "w:gz") as archive:
        for entry, content in entries.items():
            member = tarfile.TarInfo(entry)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return name
