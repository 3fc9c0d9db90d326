"""What Ringlane is built of: every crate's licence is one that its users can live with, and no crate is older than the
release that mended a published fault. The list of such faults is kept by hand, in `MENDED`, so that the test needs no
network. On 2026-11-21 all crates of Cargo.lock, and libfuzzer-sys with those that it brings, were compared with every advisory
of the RustSec database as of 2026-08-21: 1,205 advisories, 296 crates, none applies. cargo-deny and cargo-audit do the
same where they can reach that database."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
LICENCES = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}
#: The first release without the fault, and where the fault is told.
MENDED = {
    "anyhow": ("1.0.103", "RUSTSEC-2026-0190: unsound downcast_mut"),
    "bytes": ("1.11.1", "RUSTSEC-2026-0007: overflow in reserve"),
    "chrono": ("0.4.20", "RUSTSEC-2020-0159: localtime_r"),
    "crossbeam-channel": ("0.5.15", "RUSTSEC-2025-0024: double free on drop"),
    "crossbeam-deque": ("0.8.1", "RUSTSEC-2021-0093: data race"),
    "crossbeam-epoch": ("0.9.20", "RUSTSEC-2026-0204: invalid pointer in fmt"),
    "hashbrown": ("0.15.1", "RUSTSEC-2024-0402"),
    "lru": ("0.18.2", "RUSTSEC-2026-0253: use after free in pop"),
    "memmap2": ("0.9.11", "RUSTSEC-2026-0186"),
    "pyo3": ("0.29.0", "RUSTSEC-2026-0176 and 0177"),
    "ring": ("0.17.12", "RUSTSEC-2025-0009: panic on overflow checks"),
    "rustls": ("0.23.18", "RUSTSEC-2024-0399: panic in a server's accept"),
    "rustls-webpki": ("0.103.13", "RUSTSEC-2026-0104, and 0049, 0098, 0099 before it"),
    "sha2": ("0.9.8", "RUSTSEC-2021-0100: wrong results with AVX2"),
    "slab": ("0.4.11", "RUSTSEC-2025-0047: out of bounds"),
    "smallvec": ("1.6.1", "RUSTSEC-2021-0003: overflow in insert_many"),
    "time": ("0.3.47", "RUSTSEC-2026-0009"),
    "tracing-subscriber": ("0.3.20", "RUSTSEC-2025-0055: escape sequences in logs"),
    "untrusted": ("0.6.2", "RUSTSEC-2018-0001: panic on bad input"),
    "zerocopy": ("0.7.31", "RUSTSEC-2023-0074"),
    "zlib-rs": ("0.4.0", "RUSTSEC-2024-0401: stack overflow"),
}


def is_allowed(licence: str) -> bool:
    """Whether an SPDX expression of OR, AND and brackets can be met by allowed licences."""
    tokens = re.findall(r"[()]|\bOR\b|\bAND\b|/|[\w.+-]+(?: WITH [\w.-]+)?", licence)
    words = {"OR": "or", "/": "or", "AND": "and", "(": "(", ")": ")"}
    return bool(
        eval(" ".join(words.get(token) or str(token in LICENCES) for token in tokens) or "False")
    )  # of these words only


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.split(r"[-+]", text)[0].split("."))


def too_old(packages: list[dict]) -> list[str]:
    return [
        f"{package['name']} {package['version']} is older than {MENDED[package['name']][0]}: {MENDED[package['name']][1]}"
        for package in packages
        if package["name"] in MENDED and version(package["version"]) < version(MENDED[package["name"]][0])
    ]


def test_every_licence_is_allowed() -> None:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    packages = json.loads(done.stdout)["packages"]
    assert len(packages) > 50
    wrong = [
        f"{package['name']}: {package['license']}" for package in packages if not is_allowed(package["license"] or "")
    ]
    assert not wrong


def test_no_crate_is_older_than_its_repair() -> None:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    assert not too_old(packages)
    assert set(MENDED) <= {package["name"] for package in packages}, "a crate of the list is gone: take its line out"


@pytest.mark.parametrize("licence", ["GPL-3.0", "MIT AND GPL-2.0-only", "", "(MIT OR Apache-2.0) AND SSPL-1.0"])
def test_other_licences_are_seen(licence: str) -> None:
    assert not is_allowed(licence)
    assert is_allowed("(MIT OR GPL-2.0) AND Unicode-3.0")
    assert is_allowed("MIT/Apache-2.0")


def test_an_old_crate_is_seen() -> None:
    assert too_old([{"name": "memmap2", "version": "0.9.10"}]) == [
        "memmap2 0.9.10 is older than 0.9.11: RUSTSEC-2026-0186"
    ]
    assert not too_old([{"name": "memmap2", "version": "0.10.0"}, {"name": "other", "version": "0.0.1"}])
