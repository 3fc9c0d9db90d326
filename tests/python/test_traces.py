"""Traces: one trace spans a worker and the sidecar, and a collector that fails costs spans, never orders."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ringlane
from collector import Collector
from daemon import until
from http_receiver import Certificate
from opentelemetry.sdk.trace import TracerProvider

STAGES = ["ringlane.queue_wait", "ringlane.journal", "ringlane.kernel", "ringlane.result"]


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def traced(address: str) -> ringlane.Sidecar:
    return ringlane.Sidecar(config={"traces": {"endpoint": address}})


def attributes(span) -> dict:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_one_trace_spans_both_processes(collector: Collector) -> None:
    app = Path(__file__).with_name("traced_app.py")
    with traced(collector.address) as sidecar:
        done = subprocess.run(
            [sys.executable, str(app), sidecar.address, collector.address], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        with ringlane.connect(sidecar.address) as client:
            until(lambda: client.stats()["traces"]["spans_sent"] == 16, what="the last span")
            assert client.stats()["traces"]["spans_dropped"] == 0
    ours = [span for service, span in collector.spans if service == "ringlane"]
    theirs = {span.span_id.hex(): span for service, span in collector.spans if service != "ringlane"}
    assert sorted(span.name for span in theirs.values()) == ["call", "process", "reserve", "wrapped"]
    assert len({span.span_id for span in ours}) == 16
    for name, expected in said.items():
        parent = theirs[expected["span"]]
        children = [span for span in ours if span.parent_span_id == parent.span_id]
        assert [span.name for span in children] == STAGES, name
        at = parent.start_time_unix_nano
        for span in children:
            assert span.trace_id.hex() == parent.trace_id.hex() == expected["trace"]
            assert at <= span.start_time_unix_nano <= span.end_time_unix_nano
            at = span.end_time_unix_nano
            found = attributes(span)
            assert found.pop("ringlane.lane") > 0
            assert found == {
                "ringlane.kernel": "orders",
                "ringlane.sequence": expected["sequence"],
                "ringlane.requests": expected["requests"],
                "ringlane.batch_size": expected["requests"],
            }
        assert at <= parent.end_time_unix_nano


def place(lane: ringlane.Lane, first: int, count: int) -> None:
    """Places `count` orders, each in a submission and a sampled span of its own."""
    tracer = TracerProvider().get_tracer("app")
    order = lane.batch(symbol=1, side="BUY", account=7, client_order_id=1, price=1_000_000, quantity=1)
    for number in range(first, first + count):
        order["client_order_id"] = number
        with tracer.start_as_current_span("order"):
            assert lane.process(order, copy=True)["code"][0] == 0


def test_a_collector_that_hangs_costs_spans_and_no_order(collector: Collector) -> None:
    collector.released.clear()
    with traced(collector.address) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=64, timeout=10, trace=True)
        place(lane, 1, 1)
        until(lambda: collector.requests == 1, what="the first request")
        # Nothing is answered from here on; more batches than the queue holds are served all the same.
        place(lane, 2, 5000)
        assert client.state().resting == 5001
        until(lambda: client.stats()["traces"]["sendings_failed"] >= 1, 20, what="the end of the patience")
        until(lambda: client.stats()["traces"]["spans_dropped"] >= 4 * (5001 - 4096), 20, what="the count")
        assert client.stats()["traces"]["spans_sent"] == 0
        collector.released.set()


def test_a_collector_that_refuses_costs_spans(collector: Collector) -> None:
    collector.status = 503
    with traced(collector.address) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=64, timeout=10, trace=True)
        place(lane, 1, 3)
        until(lambda: client.stats()["traces"]["spans_dropped"] == 12, what="the count")
        collector.status = 200
        place(lane, 4, 2)
        until(lambda: client.stats()["traces"]["spans_sent"] == 8, what="spans after the collector is back")


def test_a_collector_that_is_gone_costs_spans() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with traced(address) as sidecar, ringlane.connect(sidecar.address) as client:
        place(client.open("orders", depth=64, timeout=10, trace=True), 1, 3)
        until(lambda: client.stats()["traces"]["spans_dropped"] == 12, what="the count")


def test_a_collector_behind_https_takes_spans_if_the_host_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Certificate(tmp_path)
    behind = Collector(certificate)
    try:
        for trusted, what in ((certificate.path, "spans_sent"), (Path("/dev/null"), "spans_dropped")):
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            with traced(behind.address) as sidecar, ringlane.connect(sidecar.address) as client:
                place(client.open("orders", depth=64, timeout=10, trace=True), 1, 3)
                until(lambda client=client, what=what: client.stats()["traces"][what] == 12, what=what)
    finally:
        behind.close()
    assert [span.name for _, span in behind.spans] == STAGES * 3


def test_without_a_collector_nothing_is_traced() -> None:
    with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=64, timeout=10, trace=True)
        assert lane._spans is None
        place(lane, 1, 3)
        with pytest.raises(TypeError, match="trace are for lanes of orders"):
            client.open("digests", trace=True)


def test_a_call_checks_its_numbers_as_without_a_span(collector: Collector) -> None:
    with traced(collector.address) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=64, timeout=10, trace=True)
        tracer = TracerProvider().get_tracer("app")
        plain = lane.call(2, 0, 0, 0, 1, 7, 0, 99)
        with tracer.start_as_current_span("calls"):
            with pytest.raises(ValueError, match="hold"):
                lane.call(300)
            with pytest.raises(TypeError):
                lane.call(*range(40))
            sampled = lane.call(2, 0, 0, 0, 1, 7, 0, 99)
        assert len(sampled) == len(plain)
        lane.call(2, 0, 0, 0, 1, 7, 0, 99)
        until(lambda: client.stats()["traces"]["spans_sent"] == 4, what="the spans of one call")


def test_an_endpoint_that_cannot_be_is_refused() -> None:
    for endpoint in ("ftp://collector:4318", "127.0.0.1:4318", "http://", "https://"):
        with pytest.raises(ringlane.SidecarUnavailable, match="no http:// or https:// address"):
            traced(endpoint)
