"""A headless Chromium, driven over its debugging pipe: opens a page and says what it drew, logged and asked the network for."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60.0


@dataclass
class Seen:
    """What came of a page: values of the expressions, complaints, and the addresses that it asked for."""

    values: list = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    picture: bytes = b""


class Chromium:
    """A browser; a context manager."""

    def __init__(self) -> None:
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-")
        inputs, outputs = os.pipe(), os.pipe()
        command = [
            str(BINARY),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--no-first-run",
        ]
        command += [
            f"--user-data-dir={self.profile.name}",
            "--window-size=1280,1750",
            "--hide-scrollbars",
            "about:blank",
        ]
        # The browser reads commands from descriptor 3 and writes to 4; a shell puts the pipes there.
        script = f'exec "$@" 3<&{inputs[0]} 4>&{outputs[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=(inputs[0], outputs[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(inputs[0])
        os.close(outputs[1])
        self.input, self.output = inputs[1], outputs[0]
        self.numbers = itertools.count(1)
        self.buffer = b""
        self.events: list[dict] = []

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.input)
        os.close(self.output)
        self.profile.cleanup()

    def _next(self, deadline: float) -> dict:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.output], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self.output, 1 << 16)
            assert more, "the browser has ended"
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict:
        """One command and its answer; what happens meanwhile goes to `events`."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self.input, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def look(self, page: Path, *expressions: str, scheme: str = "light") -> Seen:
        """Opens a file in light or dark, and evaluates expressions once it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", session, features=[feature])
        self.events.clear()
        self.call("Page.navigate", session, url=page.as_uri())
        deadline = time.monotonic() + SECONDS
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(deadline))
        seen = Seen()
        for expression in expressions:
            answer = self.call("Runtime.evaluate", session, expression=expression, returnByValue=True)
            seen.values.append(answer["result"].get("value"))
        shot = self.call("Page.captureScreenshot", session, captureBeyondViewport=True)
        seen.picture = base64.b64decode(shot["data"])
        for event in self.events:
            method, parameters = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                seen.complaints.append(str(parameters["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                seen.complaints.append(str(parameters["args"]))
            elif method == "Log.entryAdded":
                seen.complaints.append(str(parameters["entry"]))
            elif method == "Network.requestWillBeSent":
                seen.requests.append(parameters["request"]["url"])
        self.call("Target.closeTarget", targetId=target)
        return seen
