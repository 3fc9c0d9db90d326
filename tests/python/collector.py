"""A collector of OpenTelemetry traces for tests: takes OTLP over HTTP with the official messages, and can refuse or hang."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """Listens at `address`; `spans` is what came, each as (service name, span). `status` is answered once `released` is set."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.released = threading.Event()
        self.released.set()
        self.spans: list[tuple[str, Any]] = []
        self.requests = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                assert self.headers["content-type"] == "application/x-protobuf"
                collector.requests += 1
                collector.released.wait(60)
                if collector.status == 200:
                    collector.take(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                try:
                    self.send_response(collector.status)
                    self.send_header("content-length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass  # who asked has not waited

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            [service] = [a.value.string_value for a in group.resource.attributes if a.key == "service.name"]
            self.spans += [(service, span) for scope in group.scope_spans for span in scope.spans]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
