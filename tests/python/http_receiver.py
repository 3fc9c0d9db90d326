"""What takes posts over HTTP or HTTPS for tests, on a port of its own; it can refuse, or hang before it answers."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HOST = "127.0.0.1"


class Certificate:
    """A certificate for this host that nobody but who is told `path` trusts."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("needs openssl to make a certificate")
        self.path, self.key = directory / "certificate.pem", directory / "key.pem"
        made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        made += ["-days", "2", "-subj", "/CN=ringlane-test", "-keyout", str(self.key), "-out", str(self.path)]
        made += ["-addext", f"subjectAltName=IP:{HOST}", "-addext", "basicConstraints=critical,CA:FALSE"]
        subprocess.run(made, check=True, capture_output=True, timeout=30)


class HttpReceiver:
    """Listens at `address`. `requests` counts what was asked; `status` is answered once `released` is set, and with 200 what
    came was taken. Whoever derives from it says what must stand in a request, takes it, and answers."""

    path: str
    content_type: str
    reply = b""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.status = 200
        self.released = threading.Event()
        self.released.set()
        self.requests = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == receiver.path
                assert self.headers["content-type"] == receiver.content_type
                receiver.check(self.headers)
                receiver.requests += 1
                receiver.released.wait(60)
                if receiver.status == 200:
                    receiver.take(body)
                try:
                    self.send_response(receiver.status)
                    self.send_header("content-length", str(len(receiver.reply)))
                    self.end_headers()
                    self.wfile.write(receiver.reply)
                except OSError:
                    pass  # who asked has not waited

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a peer that does not trust the certificate says so and goes

        self._server = Server((HOST, 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.path, certificate.key)
            # The handshake is the thread's that serves the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificate is None else "https"
        self.address = f"{scheme}://{HOST}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def check(self, headers: Any) -> None:
        """Fails for a request that is not as it must be."""

    def take(self, body: bytes) -> None:
        """Takes what came."""
        raise NotImplementedError

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
