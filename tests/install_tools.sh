#!/bin/sh
# Installs what some tests need and skip without: only what is missing, only as root, only where apt is there. Never fails.
[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || exit 0
missing=""
command -v chromium > /dev/null || command -v google-chrome > /dev/null || missing="$missing chromium"
command -v tmux > /dev/null || missing="$missing tmux"
command -v promtool > /dev/null || missing="$missing prometheus"
[ -z "$missing" ] && exit 0
echo "--- installing$missing for the tests"
install="apt-get install -y -q --no-install-recommends $missing"
timeout 600 sh -c "$install || { apt-get update -q && $install; }" > /dev/null 2>&1 || echo "--- not installed:$missing; its tests are skipped"
exit 0
