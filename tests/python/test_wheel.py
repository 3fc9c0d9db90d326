"""The wheel on every CPython that this machine has, without a Rust toolchain; the source archive, which holds shim and daemon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import unpack

ROOT = Path(__file__).parents[2]
WHEELS = sorted((ROOT / "target/wheels").glob("ringlane-*.whl"))
DRIVE = """
import os, shutil, ringlane
from ringlane import Side
assert shutil.which("cargo") is None
with ringlane.connect() as client:
    lane = client.open("orders", depth=64)
    batch = lane.batch(symbol="AAPL", side=Side.SELL, account=1, client_order_id=[1, 2], price="187.25", quantity=100)
    print(lane.process(batch)["state"].tolist())
"""


def pythons() -> list[str]:
    """Working CPython 3.10 and later, one a version, by their own paths."""
    found = {}
    for minor in range(10, 15):
        candidates = [
            shutil.which(f"python3.{minor}"),
            *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3")),
        ]
        for candidate in filter(None, candidates):
            probe = subprocess.run(
                [candidate, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True
            )
            if probe.returncode == 0:
                found[minor] = probe.stdout.strip()
    return [found[minor] for minor in sorted(found)]


def bare_environment(venv: Path) -> dict[str, str]:
    """The environment of a user who has Python and nothing else."""
    kept = {
        name: os.environ[name]
        for name in ("HOME", "LANG", "SSL_CERT_FILE", "PIP_INDEX_URL", "PIP_CERT")
        if name in os.environ
    }
    return {**kept, "PATH": f"{venv}/bin:/usr/bin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.skipif(not WHEELS, reason="skipped: needs a built wheel (make build)")
@pytest.mark.parametrize("python", pythons())
def test_the_wheel_trades_on_this_python_without_rust(python: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    made = subprocess.run([python, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"skipped: needs the venv module of {python}")
    env = bare_environment(venv)
    install = [str(venv / "bin/pip"), "install", "--quiet", "--only-binary", ":all:", str(WHEELS[-1])]
    subprocess.run(install, env=env, check=True, timeout=300)
    done = subprocess.run([str(venv / "bin/python"), "-c", DRIVE], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[1, 1]\n", done.stderr
    told = subprocess.run(["ringlane", "--version"], env=env, capture_output=True, text=True, timeout=10)
    assert told.stdout.startswith("ringlane ")


def test_the_source_archive_builds_the_daemon_and_the_shim(tmp_path: Path) -> None:
    """Its workspace is whole: cargo resolves both crates from it, offline."""
    make = "import build_backend, sys; print(build_backend.build_sdist(sys.argv[1]))"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", make, str(tmp_path)],
        env={**os.environ, "PATH": path},
        cwd=ROOT / "python",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    unpack(archive, tmp_path)
    root = tmp_path / archive.name.removesuffix(".tar.gz")
    env = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target/sdist")}
    for crate in ("ringlane-sidecar", "ringlane-shim"):
        check = ["cargo", "check", "--quiet", "--offline", "-p", crate]
        done = subprocess.run(check, cwd=root, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("objdump") is None, reason="skipped: needs objdump (binutils)")
@pytest.mark.parametrize("side", ["daemon", "shim"])
def test_frame_pointers_are_kept_on_both_sides(side: str) -> None:
    """What perf and py-spy walk stacks by."""
    import ringlane._shim
    from ringlane.sidecar import find_binary

    path = find_binary() if side == "daemon" else ringlane._shim.__file__
    done = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, timeout=120)
    bodies = [body.splitlines()[:10] for body in done.stdout.split("\n\n") if re.match(r"[0-9a-f]+ <.*ringlane", body)]
    large = [body for body in bodies if len(body) == 10]
    kept = [body for body in large if any(re.search(r"mov +%rsp,%rbp", line) for line in body)]
    assert len(large) > 20
    assert len(kept) > 0.95 * len(large), f"{len(kept)} of {len(large)} functions keep their frame pointer"
