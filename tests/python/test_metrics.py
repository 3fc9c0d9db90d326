"""Metrics: both ways to scrape them, a real Prometheus with the shipped rules and dashboard, and what workers count themselves."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ringlane
import ringlane.metrics
from daemon import until

SHIPPED = Path(__file__).parents[2] / "systemd/prometheus"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed (Debian: prometheus)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ringlane.Sidecar, str, Path]]:
    """A sidecar that has done some work, its TCP address and its Unix socket for scrapes."""
    path, listen = tmp_path_factory.mktemp("metrics") / "metrics.sock", f"127.0.0.1:{free_port()}"
    with (
        ringlane.Sidecar(config={"metrics": {"socket": path, "listen": listen}}) as sidecar,
        ringlane.connect(sidecar.address) as client,
        client.open("orders", depth=1024) as lane,
    ):
        trade(lane, 1)
        yield sidecar, listen, path


def trade(lane: ringlane.Lane, first: int) -> None:
    for side, account in (("SELL", 1), ("BUY", 2)):
        ids = list(range(first, first + 200))
        orders = lane.batch(symbol="AAPL", side=side, account=account, client_order_id=ids, price="150", quantity=1)
        assert not lane.process(orders, copy=True)["code"].any()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


def over_unix(path: Path, target: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    connection = UnixConnection(path)
    connection.request(method, target)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def sample(text: str, name: str) -> float:
    [value] = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.rsplit(" ", 1)[0] == name]
    return float(value)


def test_the_unix_socket_says_what_the_board_says(scraped):
    _, _, path = scraped
    until(
        lambda: sample(over_unix(path)[1], 'ringlane_kernel_requests_total{kernel="orders"}') == 400, what="the count"
    )
    text = over_unix(path)[1]
    assert sample(text, "ringlane_sequencer_trades_total") == 200
    assert sample(text, "ringlane_healthy") == 1
    assert sample(text, "process_resident_memory_bytes") > sample(text, "ringlane_heap_bytes") > 100_000
    count = sample(text, 'ringlane_stage_duration_seconds_count{stage="kernel"}')
    assert sample(text, 'ringlane_stage_duration_seconds_bucket{le="+Inf",stage="kernel"}') == count >= 2
    assert "lane=" not in text, "lanes come and go: no label may name them"
    assert sample(over_unix(path)[1], "ringlane_service_scrapes_total") > sample(text, "ringlane_service_scrapes_total")


def is_ended(connection: socket.socket) -> bool:
    """Whether a request without an end is ended by the other side."""
    try:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000)
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_what_is_no_scrape_is_refused_and_counted(scraped):
    _, listen, path = scraped
    assert over_unix(path, "/")[0] == 404
    assert over_unix(path, method="POST")[0] == 405
    host, port = listen.split(":")
    with socket.create_connection((host, int(port)), 10) as endless:
        assert is_ended(endless)
    assert sample(over_unix(path)[1], "ringlane_service_scrapes_failed_total") >= 2
    with socket.create_connection((host, int(port)), 10):  # says nothing and stays: others are answered all the same
        assert over_unix(path)[0] == 200


def test_only_loopback_is_listened_at(tmp_path):
    with pytest.raises(ringlane.SidecarUnavailable, match="no loopback address"):
        ringlane.Sidecar(config={"metrics": {"listen": "0.0.0.0:9464"}})


@needs("promtool")
def test_promtool_finds_nothing_to_say(scraped):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=over_unix(scraped[2])[1], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("promtool")
def test_the_shipped_rules_pass_their_tests():
    for words in (["check", "rules", "ringlane.rules.yml"], ["test", "rules", "ringlane.rules.test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=SHIPPED, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def prometheus(scraped, tmp_path) -> Iterator[str]:
    """A Prometheus that scrapes the sidecar every 200 ms, with the shipped rules."""
    web = f"127.0.0.1:{free_port()}"
    (tmp_path / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n"
        f"rule_files: [{SHIPPED / 'ringlane.rules.yml'}]\n"
        f"scrape_configs: [{{job_name: ringlane, static_configs: [{{targets: ['{scraped[1]}']}}]}}]\n"
    )
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address={web}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            yield f"http://{web}"
        finally:
            process.terminate()
            process.wait(20)


def query(web: str, expression: str) -> list[dict[str, Any]]:
    url = f"{web}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(url, timeout=10) as answer:
        reply = json.load(answer)
    assert reply["status"] == "success", reply
    return list(reply["data"]["result"])


def answers(web: str, expression: str) -> bool:
    try:
        return bool(query(web, expression))
    except OSError:
        return False


@needs("prometheus")
def test_a_real_prometheus_answers_every_query_of_the_dashboard(scraped, prometheus):
    until(lambda: answers(prometheus, "ringlane_healthy"), 30, "the first scrape")
    with ringlane.connect(scraped[0].address) as client, client.open("orders", depth=1024) as lane:
        for round in range(1, 8):
            trade(lane, 1000 * round)
            time.sleep(0.2)
        until(lambda: answers(prometheus, "ringlane:requests:rate1m > 0"), 30, "the recording rule")
        assert query(prometheus, 'up{job="ringlane"}')[0]["value"][1] == "1"
        dashboard = json.loads((SHIPPED / "ringlane.dashboard.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        assert len(queries) > 20
        for expression in queries:
            asked = expression.replace("$instance", ".*")
            until(lambda asked=asked: answers(prometheus, asked), 20, expression)
        with pytest.raises(AssertionError, match="no such metric"):
            until(lambda: answers(prometheus, "ringlane_nothing_total"), 0.5, "no such metric")


def test_workers_count_for_prometheus_client(sidecar):
    registry = pytest.importorskip("prometheus_client").CollectorRegistry()
    with ringlane.connect(sidecar.address) as client, client.open("orders", depth=64) as lane:
        ringlane.metrics.register(client, registry)

        def value(name: str) -> float | None:
            return registry.get_sample_value(name, {"kernel": "orders"})

        cancels = lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(40)))
        held = lane.process(cancels)
        with pytest.raises(ringlane.LaneFull):
            lane.process(cancels, on_full="raise")
        del held
        lane.process(cancels, copy=True)
        assert value("ringlane_client_batches_total") == 2
        assert value("ringlane_client_records_total") == 80
        assert value("ringlane_client_lane_full_total") == 1
        assert value("ringlane_client_waits_total") == 2
        assert value("ringlane_client_process_duration_seconds_count") == 2
        assert 0 < value("ringlane_client_wait_seconds_total") < 20
    del client, lane
    assert value("ringlane_client_batches_total") in (2, None)
