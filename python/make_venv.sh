#!/bin/sh
# Makes the virtual environment $1 with the first CPython from 3.13 down to 3.10 that can make one.
set -u
venv=$1
try() {
    for python in python3.13 python3.12 python3.11 python3.10 python3; do
        command -v "$python" >/dev/null 2>&1 || continue
        "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
        rm -rf "$venv"
        if "$python" -m venv "$venv" >/dev/null 2>&1 && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
            echo "$venv: $("$venv/bin/python" --version)"
            return 0
        fi
    done
    rm -rf "$venv"
    return 1
}
try && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "no Python here can make a virtual environment; installing python3-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv >/dev/null && try && exit 0
fi
echo "ringlane needs CPython 3.10 to 3.13 with its venv module: ask your administrator for the package python3-venv." >&2
exit 1
