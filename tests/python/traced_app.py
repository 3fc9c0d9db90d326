"""A worker with spans of its own, as an application has them. Arguments: the sidecar's address, the collector's. Prints its
span ids by name, in hex, and the sequence numbers that it got."""

import json
import sys

import ringlane
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF


def main(address: str, collector: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector}/v1/traces")))
    tracer, silent = provider.get_tracer("app"), TracerProvider(sampler=ALWAYS_OFF).get_tracer("app")
    said: dict[str, dict[str, object]] = {}
    with ringlane.connect(address) as client, client.open("orders", depth=64, timeout=10, trace=True) as lane:
        numbers = iter(range(1, 1000))

        def batch(count: int) -> ringlane.lane.Records:
            ids = [next(numbers) for _ in range(count)]
            return lane.batch(symbol=1, side="BUY", account=7, client_order_id=ids, price=1_000_000, quantity=1)

        def in_span(name: str, work: object) -> None:
            with tracer.start_as_current_span(name) as span:
                sequence, requests = work()  # type: ignore[operator]
            context: trace.SpanContext = span.get_span_context()
            ids = {"trace": f"{context.trace_id:032x}", "span": f"{context.span_id:016x}"}
            said[name] = ids | {"sequence": sequence, "requests": requests}

        def by_process() -> tuple[int, int]:
            results = lane.process(batch(3), copy=True)
            return int(results["sequence"][0]), 3

        def by_reserve() -> tuple[int, int]:
            reservation = lane.reserve(2)
            with reservation as slots:
                slots[:] = batch(2)
            return int(reservation.ticket.result()["sequence"][0]), 2

        def by_call() -> tuple[int, int]:
            order = batch(1)[0]
            answer = lane.call(*(order[field.name].item() for field in lane.request_schema.visible))
            return int(
                dict(zip((field.name for field in lane.result_schema.visible), answer, strict=True))["sequence"]
            ), 1

        lane.process(batch(1), copy=True)  # no span
        in_span("call", by_call)
        in_span("process", by_process)
        in_span("reserve", by_reserve)
        for _ in range(100):  # over all slots, and over those that named spans
            with silent.start_as_current_span("silent"):
                lane.process(batch(1), copy=True)
        in_span("wrapped", by_process)
    provider.shutdown()
    print(json.dumps(said))


main(*sys.argv[1:])
