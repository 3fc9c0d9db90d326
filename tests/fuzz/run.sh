#!/bin/sh
# Fuzzes by coverage: `run.sh SECONDS [TARGET...]`, every target in turn when none is named. The stable toolchain is enough.
# What is found worth keeping stays in tests/fuzz/grown for the next run; with KEEP=1 the smallest of it is packed into
# tests/fuzz/corpus/TARGET.gz, from which every other run begins. The input of a failure goes into tests/fuzz/corpus/TARGET/,
# where `make test` runs it.
set -eu
seconds=$1
shift
cd "$(dirname "$0")/../.."
sanitizer="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
[ -e tests/fuzz/Cargo.lock ] || cp Cargo.lock tests/fuzz/Cargo.lock  # the versions that the workspace has
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$(echo $sanitizer)" cargo build --quiet --release --manifest-path tests/fuzz/Cargo.toml \
  --target x86_64-unknown-linux-gnu --target-dir target/fuzz
program=target/fuzz/x86_64-unknown-linux-gnu/release/fuzz
targets=${*:-control_messages requests_header orders vectors digests journal snapshot config import_csv import_lobster}
for target in $targets; do
  echo "--- $target: $seconds s"
  grown=tests/fuzz/grown/$target failures=tests/fuzz/corpus/$target
  mkdir -p "$grown" "$failures"
  export RINGLANE_FUZZ_TARGET="$target"
  RINGLANE_FUZZ_BEGIN=$grown "$program" "$grown" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=4096 \
    -verbosity=0 -print_final_stats=1 -artifact_prefix="$failures/"
  # Of what was found only what others do not reach: the next run begins quicker.
  rm -rf "$grown.least" && mkdir "$grown.least"
  "$program" -merge=1 -verbosity=0 -timeout=20 "$grown.least" "$grown" 2>/dev/null
  rm -rf "$grown" && mv "$grown.least" "$grown"
  echo "$target: $(ls "$grown" | wc -l) inputs reach all that was reached"
  [ -z "${KEEP:-}" ] || RINGLANE_FUZZ_KEEP=$grown "$program"
  rmdir --ignore-fail-on-non-empty "$failures"
done
