"""Runs each COPY and RUN line of the Dockerfile once, without a Docker engine: a stage is a chroot that debootstrap made.

`make docker-steps`; needs root, debootstrap and the network. `docker_steps.py DIRECTORY` keeps its chroots there, and goes on
behind the last step that succeeded. What a chroot cannot try: the engine's own FROM, USER, VOLUME,
HEALTHCHECK and ENTRYPOINT, and compose. A base image's toolchain is stood in for by this machine's Rust, and by Debian's
Python in a virtual environment.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "systemd/container/Dockerfile"
MIRROR = "http://deb.debian.org/debian"
BASES = {
    "rust": ["gcc", "make", "libc6-dev", "ca-certificates", "git"],
    "debian": [],
    "python": ["python3", "python3-venv", "ca-certificates"],
}


def sh(*command: str, **options: object) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, check=True, **options)  # type: ignore[call-overload]


class Stage:
    """One FROM of the Dockerfile."""

    def __init__(self, base: str, directory: Path) -> None:
        self.root, self.workdir, self.path = directory, "/", "/usr/local/bin:/usr/bin:/usr/sbin:/bin"
        kind = base.split(":")[0]
        if kind == "python":
            self.path = "/opt/python/bin:" + self.path
        made = directory.with_suffix(".made")
        if not made.exists():
            shutil.rmtree(directory, ignore_errors=True)
            self.make(kind, directory)
            made.touch()

    @staticmethod
    def make(kind: str, directory: Path) -> None:
        """What the engine would fetch as an image."""
        include = ",".join(BASES[kind])
        sh(
            "debootstrap",
            "--variant=minbase",
            *([f"--include={include}"] if include else []),
            "bookworm",
            str(directory),
            MIRROR,
        )
        shutil.copy("/etc/resolv.conf", directory / "etc/resolv.conf")
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if (directory / "etc/ssl/certs").is_dir() and bundle.exists():
            shutil.copy(bundle, directory / "etc/ssl/certs/ca-certificates.crt")
        for config in (Path("/etc/pip.conf"), Path("/etc/apt/sources.list")):
            if config.exists():
                shutil.copy(config, directory / config.relative_to("/"))
        if kind == "rust":
            sysroot = subprocess.run(
                ["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True
            ).stdout.strip()
            sh("cp", "-a", f"{sysroot}/.", str(directory / "usr/local"))
        if kind == "python":
            sh("chroot", str(directory), "python3", "-m", "venv", "/opt/python")

    def copy(self, words: list[str], stages: dict[str, Stage]) -> None:
        source_root = ROOT
        if words[0].startswith("--from="):
            source_root = stages[words.pop(0).removeprefix("--from=")].root
        target = self.root / str(Path(self.workdir, words[1])).lstrip("/")
        if source_root == ROOT:
            target.mkdir(parents=True, exist_ok=True)
            listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
            packed = subprocess.run(
                ["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=listed, capture_output=True, check=True
            )
            sh("tar", "-x", "-C", str(target), input=packed.stdout)
            return
        sh("cp", "-a", str(source_root / words[0].lstrip("/")), str(target))

    def run(self, command: str) -> None:
        environment = {"PATH": self.path, "HOME": "/root", "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt"}
        # Compilers look at /proc; the mount ends with its namespace.
        inside = f'mount -t proc proc "$0/proc" && exec chroot "$0" sh -c "cd {self.workdir} && $1"'
        sh(
            "unshare",
            "-fpm",
            "--kill-child=KILL",
            "sh",
            "-c",
            inside,
            str(self.root),
            command,
            env=environment,
            timeout=1800,
        )


def main() -> int:
    if shutil.which("debootstrap") is None:
        print("skipped: needs debootstrap")
        return 0
    with contextlib.ExitStack() as ends:
        kept = sys.argv[1:] or [ends.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))]
        steps(Path(kept[0]))
    print("every COPY and RUN line succeeded")
    return 0


def steps(directory: Path) -> None:
    """The lines of the Dockerfile, but for those that were done in this directory before."""
    stages: dict[str, Stage] = {}
    stage = None
    log = directory / "done"
    done = set(log.read_text().splitlines()) if log.exists() else set()
    for number, line in enumerate(DOCKERFILE.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(base, directory / name)
        elif stage is None or word in ("#", "", "USER", "ENV", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD"):
            continue
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word in ("COPY", "RUN"):
            step = f"{number} {line}"
            if step not in done:
                stage.copy(rest.split(), stages) if word == "COPY" else stage.run(rest)
                with log.open("a") as file:
                    file.write(step + "\n")
        else:
            raise SystemExit(f"docker-steps does not know {word}")


if __name__ == "__main__":
    sys.exit(main())
