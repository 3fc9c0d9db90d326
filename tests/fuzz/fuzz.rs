//! One target of `ringlane_tests::fuzz` under libFuzzer; `RINGLANE_FUZZ_TARGET` names it. `make fuzz` runs it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ringlane_tests::fuzz::{Target, target};

static TARGET: LazyLock<&'static Target> =
    LazyLock::new(|| target(&std::env::var("RINGLANE_FUZZ_TARGET").expect("RINGLANE_FUZZ_TARGET names a target")));

fuzz_target!(|input: &[u8]| (TARGET.run)(input));
