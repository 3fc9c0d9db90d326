#!/bin/sh
# AddressSanitizer over the Rust tests of layout, sidecar and tests: `sanitize.sh [PACKAGE...]`. A build of its own, removed afterwards
# unless KEEP is set.
# The shim is left out: it lives in a Python process, which would have to be built for it too.
set -eu
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
packages=${*:-ringlane-layout ringlane-sidecar ringlane-tests}
[ -n "${KEEP:-}" ] || trap 'rm -rf target/sanitize' EXIT
# A simulated run takes ten times as long here: fewer of them, unless somebody says how many.
export RINGLANE_SEEDS="${RINGLANE_SEEDS:-50}"
for package in $packages; do
  # Leaks are no errors here: what a killed thread or a static holds is nobody's loss. Nor is memory that cannot be had: tests ask for it.
  RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_DEV_DEBUG=line-tables-only cargo test --quiet --package "$package" --lib --tests --target "$target" --target-dir target/sanitize
done
