//! One target of `ringlane_tests::fuzz` under libFuzzer; `RINGLANE_FUZZ_TARGET` names it. `make fuzz` runs it, after it laid out
//! what the target begins with in the directory `RINGLANE_FUZZ_BEGIN`; with `RINGLANE_FUZZ_KEEP` it only packs that directory.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ringlane_tests::fuzz::{Target, corpus, target};

static TARGET: LazyLock<&'static Target> =
    LazyLock::new(|| target(&std::env::var("RINGLANE_FUZZ_TARGET").expect("RINGLANE_FUZZ_TARGET names a target")));

fn begin() {
    if let Some(directory) = std::env::var_os("RINGLANE_FUZZ_KEEP") {
        let kept = corpus::keep(&TARGET, Path::new(&directory)).expect("the corpus can be written");
        println!("{}: {kept} inputs are kept", TARGET.name);
        std::process::exit(0);
    }
    if let Some(directory) = std::env::var_os("RINGLANE_FUZZ_BEGIN") {
        corpus::lay_out(&TARGET, Path::new(&directory)).expect("the directory can be written");
    }
}

fuzz_target!(init: begin(), |input: &[u8]| (TARGET.run)(input));
