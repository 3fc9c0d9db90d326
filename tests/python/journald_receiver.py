"""Stands in for systemd's journal in a mount namespace of its own: runs a sidecar there and prints what it is sent, one JSON
object a datagram. Arguments: the sidecar's command."""

import json
import os
import signal
import socket
import subprocess
import sys
import time


def fields(datagram: bytes) -> dict[str, str]:
    """`NAME=value` lines, and `NAME`, a length of 8 bytes and as many bytes, which hold newlines."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            datagram = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, datagram = rest[8 : 8 + length], rest[9 + length :]
        found[name.decode()] = value.decode()
    return found


def main() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.makedirs("/run/systemd/journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind("/run/systemd/journal/socket")
        journal.settimeout(10)
        sidecar = subprocess.Popen(sys.argv[1:])
        got: list[dict[str, str]] = []
        deadline = time.monotonic() + 20
        try:
            while not any(entry.get("MESSAGE") == "serving" for entry in got) and time.monotonic() < deadline:
                if datagram := journal.recv(65536):
                    got.append(fields(datagram))
        finally:
            sidecar.send_signal(signal.SIGTERM)
            sidecar.wait(10)
    print(json.dumps(got))


main()
