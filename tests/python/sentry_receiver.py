"""A Sentry for tests: reads envelopes with the official package."""

from __future__ import annotations

from typing import Any

from http_receiver import Certificate, HttpReceiver
from sentry_sdk.envelope import Envelope


class SentryReceiver(HttpReceiver):
    """`dsn` is where it is; `events` are those that came, `text` is all that came."""

    path = "/api/42/envelope/"
    content_type = "application/x-sentry-envelope"
    reply = b"{}"

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.text = ""
        super().__init__(certificate)
        self.dsn = self.address.replace("://", "://abc123@") + "/42"

    def check(self, headers: Any) -> None:
        auth = dict(word.split("=") for word in headers["x-sentry-auth"].removeprefix("Sentry ").split(", "))
        assert (auth["sentry_key"], auth["sentry_version"]) == ("abc123", "7")

    def take(self, body: bytes) -> None:
        envelope = Envelope.deserialize(body)
        [item] = envelope.items
        event = item.get_event()
        assert event is not None
        assert envelope.headers["event_id"] == event["event_id"]
        assert len(event["event_id"]) == 32
        self.text += body.decode()
        self.events.append(event)
