"""A Sentry for tests: takes envelopes over HTTP, reads them with the official package, and can refuse or hang."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sentry_sdk.envelope import Envelope


class SentryReceiver:
    """Listens at `dsn`; `events` are those that came, `text` is all that came. `status` is answered once `released` is set."""

    def __init__(self) -> None:
        self.status = 200
        self.released = threading.Event()
        self.released.set()
        self.events: list[dict[str, Any]] = []
        self.text = ""
        self.requests = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/api/42/envelope/"
                assert self.headers["content-type"] == "application/x-sentry-envelope"
                auth = dict(
                    word.split("=") for word in self.headers["x-sentry-auth"].removeprefix("Sentry ").split(", ")
                )
                assert (auth["sentry_key"], auth["sentry_version"]) == ("abc123", "7")
                receiver.requests += 1
                receiver.released.wait(60)
                if receiver.status == 200:
                    receiver.take(body)
                try:
                    self.send_response(receiver.status)
                    self.send_header("content-length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")
                except OSError:
                    pass  # who asked has not waited

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.dsn = f"http://abc123@127.0.0.1:{self._server.server_port}/42"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        envelope = Envelope.deserialize(body)
        [item] = envelope.items
        event = item.get_event()
        assert event is not None
        assert envelope.headers["event_id"] == event["event_id"]
        assert len(event["event_id"]) == 32
        self.text += body.decode()
        self.events.append(event)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
