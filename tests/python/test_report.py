"""The page of `ringlane replay --report`: charts are drawn in a real browser, nothing is complained of, nothing is fetched."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
import ringlane
from recordings import run, trade

needs_browser = pytest.mark.skipif(
    chromium.BINARY is None, reason="Chromium is not installed (Debian: apt install chromium)"
)

CHARTS = (
    "Throughput",
    "Latency before matching",
    "Queue depth",
    "Rejects by reason",
    "Price of",
    "Traded quantity of",
    "Depth of",
    "Trades by symbol",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[Path, ringlane.State]:
    directory = tmp_path_factory.mktemp("report")
    live = trade(directory / "journal", 31, batches=40)
    run("replay", directory / "journal", "--report", directory / "report.html")
    return directory / "report.html", live


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Chromium]:
    with chromium.Chromium() as running:
        yield running


def data(page: Path) -> dict:
    found = re.search(r"^const data = (\{.*\});$", page.read_text(), re.MULTILINE)
    return json.loads(found[1].replace("\\u003c", "<"))


def test_the_numbers_of_the_page_are_those_of_the_recording(page):
    told, live = data(page[0]), page[1]
    assert told["summary"]["state_hash"] == live.state_hash
    assert sum(told["orders"]) == live.accepted + live.rejected
    assert sum(told["rejected"]) == live.rejected == sum(reject["count"] for reject in told["rejects"])
    assert sum(told["trades"]) == live.trades == sum(symbol["trades"] for symbol in told["symbols"])
    assert told["waits"]["total"] == sum(told["orders"])
    assert told["waits"]["at_once"] + sum(bucket[2] for bucket in told["waits"]["buckets"]) == told["waits"]["total"]
    assert {symbol["name"] for symbol in told["symbols"]} == {"AAPL", "MSFT", "AMZN"} or len(told["symbols"]) == 3
    for symbol in told["symbols"]:
        prices = [price for price in symbol["last"] if price is not None]
        assert prices
        assert all(990_000 < price < 1_010_000 for price in prices)
    assert max(told["waiting"]) > 0


def test_nothing_in_the_page_points_elsewhere(page):
    text = page[0].read_text()
    addresses = set(re.findall(r"(?:https?|wss?|ftp):[^\s\"'<>)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in text


@needs_browser
def test_charts_are_drawn_and_nothing_is_complained_of(page, browser):
    pictures = []
    for scheme in ("light", "dark"):
        seen = browser.look(
            page[0],
            "document.documentElement.dataset.drawn | 0",
            "[...document.querySelectorAll('section')].map(s => [s.querySelector('h2 span').textContent,"
            " s.querySelectorAll('svg .series').length, s.querySelectorAll('svg text').length])",
            "getComputedStyle(document.body).backgroundColor",
            "[...document.querySelectorAll('svg text')].filter(t => /NaN|undefined|Infinity/.test(t.textContent)).length"
            " + [...document.querySelectorAll('svg *')].filter(e => /NaN|undefined|Infinity/.test(e.outerHTML)).length",
            "(() => { const s = document.getElementById('symbol'); s.value = 1; s.dispatchEvent(new Event('change'));"
            " return [s.options[1].textContent.split(' ')[0], document.querySelector('#market h2 span').textContent]; })()",
            scheme=scheme,
        )
        drawn, charts, background, wrong, (second, title) = seen.values
        assert drawn >= len(CHARTS)
        assert len(charts) == len(CHARTS)
        for (name, series, texts), wanted in zip(charts, CHARTS, strict=True):
            assert name.startswith(wanted)
            assert series >= 1, name
            assert texts >= 2, name
        assert wrong == 0
        assert title == f"Price of {second}"
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [page[0].as_uri()]
        pictures.append((background, seen.picture))
        if directory := os.environ.get("RINGLANE_PICTURES"):
            Path(directory, f"report-{scheme}.png").write_bytes(seen.picture)
    assert pictures[0][0] != pictures[1][0]
    assert all(len(picture) > 30_000 for _, picture in pictures)


@needs_browser
def test_the_browser_would_have_told(page, browser, tmp_path):
    """A page that fails and fetches is seen to."""
    broken = tmp_path / "broken.html"
    text = (
        page[0]
        .read_text()
        .replace("default-src 'none';", "")
        .replace('"use strict";', "fetch('http://127.0.0.1:9/x'); nothing();")
    )
    broken.write_text(text)
    seen = browser.look(broken, "document.documentElement.dataset.drawn | 0")
    assert seen.values == [0]
    assert any("nothing is not defined" in complaint for complaint in seen.complaints)
    assert "http://127.0.0.1:9/x" in seen.requests


@needs_browser
def test_a_recording_without_orders_has_a_page_too(tmp_path, browser):
    with ringlane.Sidecar(journal=tmp_path / "journal"):
        pass
    run("replay", tmp_path / "journal", "--report", tmp_path / "report.html")
    seen = browser.look(tmp_path / "report.html", "document.querySelectorAll('.none').length")
    assert seen.values[0] >= 4
    assert seen.complaints == []
