"""iceoryx2's Python request-response echo, 64 bytes each way, both sides polling without a pause.

Runs by itself in `.venv-bench`: `python peer_iceoryx2.py COUNT CLIENT_CPU SERVER_CPU`. Prints one line of JSON.
The calls are the shortest that its Python API has for a copy-free request and reply: loan, write, send; receive.
"""

import ctypes
import gc
import json
import multiprocessing
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import iceoryx2


class Record(ctypes.Structure):
    """64 bytes."""

    _fields_ = [("bytes", ctypes.c_uint8 * 64)]


def open_service(name: str) -> tuple[Any, Any]:
    """The node (which must be kept) and the service."""
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    service = node.service_builder(iceoryx2.ServiceName.new(name)).request_response(Record, Record).open_or_create()
    return node, service


def serve(name: str, cpu: int, ready: Any) -> None:
    """Answers every request."""
    os.sched_setaffinity(0, {cpu})
    _node, service = open_service(name)
    server = service.server_builder().create()
    reply = Record()
    gc.disable()
    ready.set()
    while True:
        request = server.receive()
        if request is not None:
            request.loan_uninit().write_payload(reply).send()


def measure(name: str, count: int) -> list[int]:
    """Times `count` round trips, ns."""
    _node, service = open_service(name)
    client = service.client_builder().create()
    record, clock = Record(), time.perf_counter_ns

    def call() -> None:
        pending = client.loan_uninit().write_payload(record).send()
        while pending.receive() is None:
            pass

    for _ in range(min(count, 1000)):
        call()
    gc.disable()
    samples = []
    for _ in range(count):
        start = clock()
        call()
        samples.append(clock() - start)
    return sorted(samples)


def main() -> None:
    count, client_cpu, server_cpu = map(int, sys.argv[1:])
    name = f"ringlane-bench/{os.getpid()}"
    ready = multiprocessing.Event()
    server = multiprocessing.Process(target=serve, args=(name, server_cpu, ready), daemon=True)
    server.start()
    assert ready.wait(30)
    os.sched_setaffinity(0, {client_cpu})
    samples = measure(name, count)
    server.terminate()
    server.join()
    at = {f"p{mark}_ns": samples[(len(samples) - 1) * mark // 100] for mark in (50, 90, 99)}
    print(json.dumps({"peer": "iceoryx2", "version": version("iceoryx2"), "count": count, **at}))


if __name__ == "__main__":
    main()
