//! Every fuzz target for a short while, on inputs that a seed repeats and on what is kept of earlier finds.
//! `RINGLANE_SEED=n` repeats a run, `RINGLANE_FUZZ_SECONDS=n` makes it longer; the input of a failure is kept in the corpus.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use ringlane_tests::fuzz::mutate::{Random, mutate};
use ringlane_tests::fuzz::{clean, corpus, target};
use xxhash_rust::xxh3::xxh3_64;

/// Longest input of a run.
const INPUT_BYTES_MAX: usize = 16_384;

/// Runs one input; one that fails is written into `directory`.
fn judge(run: fn(&[u8]), input: &[u8], seed: u64, directory: &Path) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) {
        let path = directory.join(format!("found-{:016x}", xxh3_64(input)));
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, input));
        eprintln!("RINGLANE_SEED={seed}; the input is {} ({written:?})", path.display());
        resume_unwind(panic);
    }
}

fn fuzz(run: fn(&[u8]), inputs: Vec<Vec<u8>>, directory: &Path, duration: Duration) -> u64 {
    let seed = std::env::var("RINGLANE_SEED").map_or_else(|_| RandomState::new().hash_one(0), |seed| seed.parse().expect("a seed"));
    println!("RINGLANE_SEED={seed}");
    inputs.iter().for_each(|input| judge(run, input, seed, directory));
    let (mut random, start, mut runs) = (Random(seed), Instant::now(), 0);
    // A few at least, however slow the machine is.
    while runs < 20 || start.elapsed() < duration {
        judge(run, &mutate(&mut random, &inputs, INPUT_BYTES_MAX), seed, directory);
        runs += 1;
    }
    runs
}

fn short(name: &str) {
    let seconds = std::env::var("RINGLANE_FUZZ_SECONDS").map_or(1.0, |seconds| seconds.parse().expect("seconds"));
    let target = target(name);
    let runs = fuzz(target.run, corpus::inputs(target), &corpus::failures(name), Duration::from_secs_f64(seconds));
    println!("{name}: {runs} inputs");
    clean(name);
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { short(stringify!($name)); })*

        #[test]
        fn none_is_left_out() {
            let names: Vec<_> = ringlane_tests::fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets! { control_messages requests_header orders vectors digests journal snapshot config import_csv import_lobster }

/// A mistake that only a certain byte behind a certain length brings out is found, and its input kept.
#[test]
fn a_planted_panic_is_found() {
    fn planted(input: &[u8]) {
        assert!(input.len() < 70 || input[64] != 0x40, "planted");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let search = || fuzz(planted, vec![vec![0; 80], vec![0x41; 100]], directory.path(), Duration::from_secs(30));
    assert!(catch_unwind(AssertUnwindSafe(search)).is_err(), "nothing was found in 30 seconds");
    let found = corpus::files(directory.path());
    assert_eq!((found.len(), found[0][64]), (1, 0x40));
}
