"""A collector of OpenTelemetry traces for tests: reads OTLP with the official messages."""

from __future__ import annotations

from typing import Any

from http_receiver import Certificate, HttpReceiver
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector(HttpReceiver):
    """`spans` is what came, each as (service name, span)."""

    path = "/v1/traces"
    content_type = "application/x-protobuf"
    reply = ExportTraceServiceResponse().SerializeToString()

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.spans: list[tuple[str, Any]] = []
        super().__init__(certificate)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            [service] = [a.value.string_value for a in group.resource.attributes if a.key == "service.name"]
            self.spans += [(service, span) for scope in group.scope_spans for span in scope.spans]
