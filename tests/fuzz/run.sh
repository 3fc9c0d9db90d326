#!/bin/sh
# Fuzzes by coverage: `run.sh SECONDS [TARGET]`, every target in turn when none is named. What libFuzzer finds worth keeping
# stays under target/fuzz/corpus for the next run; the input of a failure goes into tests/fuzz/corpus, where `make test` runs it.
set -eu
seconds=$1
cd "$(dirname "$0")/../.."
sanitizer="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$(echo $sanitizer)" cargo build --quiet --release --manifest-path tests/fuzz/Cargo.toml \
  --target x86_64-unknown-linux-gnu --target-dir target/fuzz
program=target/fuzz/x86_64-unknown-linux-gnu/release/fuzz
targets=${2:-control_messages requests_header orders vectors digests journal snapshot config import_csv import_lobster}
for target in $targets; do
  echo "--- $target: $seconds s"
  mkdir -p "target/fuzz/corpus/$target" "tests/fuzz/corpus/$target"
  RINGLANE_FUZZ_TARGET=$target "$program" "target/fuzz/corpus/$target" "tests/fuzz/corpus/$target" \
    -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="tests/fuzz/corpus/$target/"
done
