"""The example pipeline: fetched over loopback by aiohttp, digested by the sidecar."""

from __future__ import annotations

import asyncio
import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
import ringlane

pytest.importorskip("aiohttp")

EXAMPLES = Path(__file__).parents[2] / "python/examples"


@pytest.mark.parametrize("backend", ["sidecar", "python"])
def test_every_document_gets_its_digest(seed: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import pipeline

    rng = random.Random(seed)
    documents = [rng.randbytes(rng.choice([0, 1, 5000, 200_000])) for _ in range(60)]

    async def run() -> list[bytes]:
        async with pipeline.server(documents) as address:
            with ringlane.connect(backend=backend) as client, client.open("digests", arena_bytes=1 << 20) as lane:  # type: ignore[arg-type]
                return await pipeline.digests(address, len(documents), lane.digest_async)

    assert asyncio.run(asyncio.wait_for(run(), 60)) == [hashlib.sha256(body).digest() for body in documents]


def test_it_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "pipeline.py", "20", "10000"], cwd=EXAMPLES, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 documents of 10000 bytes fetched and digested")
