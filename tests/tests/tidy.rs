//! The rooms and their walls: which file may hold `unsafe`, who may import whom, which crate belongs where, how files open.
//! Every rule is seen red once, on a planted line, beside its run over the real tree. What code does is tested elsewhere.

use std::path::{Path, PathBuf};

/// What may stand at the top of the repository. Ignored files do not count.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "sidecar",
    "shim",
    "python",
    "layout",
    "tests",
    "systemd",
    "README.md",
    "Makefile",
    "CHANGELOG.md",
    "LICENSE*",
    "rustfmt.toml",
    "clippy.toml",
    "ruff.toml",
    ".gitignore",
    ".cargo",
    ".ci",
    ".git",
];

/// The files that may hold `unsafe`, each for one reason that its first lines give.
const UNSAFE_FILES: &[&str] = &[
    "layout/src/shared.rs",
    "layout/tests/loom.rs",
    "sidecar/src/board/reader.rs",
    "sidecar/src/board/writer.rs",
    "sidecar/src/control/peer.rs",
    "sidecar/src/control/session.rs",
    "sidecar/src/jobs/pool.rs",
    "sidecar/src/journal/segment.rs",
    "sidecar/src/kernels/digests/sha256.rs",
    "sidecar/src/kernels/prefetch.rs",
    "sidecar/src/kernels/vectors/isa/avx2.rs",
    "sidecar/src/kernels/vectors/isa/avx512.rs",
    "sidecar/src/kernels/vectors/isa/neon.rs",
    "sidecar/src/lanes/region.rs",
    "sidecar/src/metrics/process.rs",
    "shim/src/call.rs",
    "shim/src/fork.rs",
    "shim/src/region.rs",
    "tests/src/bin/limits.rs",
    "tests/tests/allocations.rs",
    "tests/tests/simulation/region.rs",
];

/// Names that must not stand in the code below a path.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("layout/", &["ringlane_sidecar", "ringlane_tests", "nix", "libc", "memmap2", "crossbeam", "rayon", "shared_memory", "pyo3"]),
    ("sidecar/", &["ringlane_tests", "pyo3"]),
    ("shim/", &["ringlane_sidecar", "ringlane_tests", "crossbeam", "rayon", "shared_memory"]),
    ("tests/", &["pyo3", "shared_memory"]),
    // Kernels are pure; kernels, journal and lanes do not know of each other, and of nothing above them.
    ("sidecar/src/kernels/", &["nix", "libc", "memmap2", "crossbeam", "std::time", "std::fs", "std::thread", "std::net"]),
    (
        "sidecar/src/kernels/",
        &["crate::journal", "crate::lanes", "crate::engine", "crate::sequencer", "crate::control", "crate::board", "crate::jobs"],
    ),
    (
        "sidecar/src/journal/",
        &["crate::kernels", "crate::lanes", "crate::engine", "crate::sequencer", "crate::control", "crate::board", "crate::jobs"],
    ),
    (
        "sidecar/src/lanes/",
        &["crate::kernels", "crate::journal", "crate::engine", "crate::sequencer", "crate::control", "crate::board", "crate::jobs"],
    ),
    // The shim knows bytes, slots and fields; it is told what a record is.
    ("shim/src/", &["orders::", "OrderRequest", "OrderResult", "OrderEvent", "symbol", "Symbol", "price", "client_order_id"]),
];

/// Crates that stand in few files only: `(crate, room, where in the room)`.
const ROOMS_OF_CRATES: &[(&str, &str, &[&str])] = &[
    ("shared_memory", "sidecar/", &["sidecar/src/board/writer.rs"]),
    (
        "memmap2",
        "sidecar/",
        &["sidecar/src/board/reader.rs", "sidecar/src/journal/segment.rs", "sidecar/src/journal/supply.rs", "sidecar/src/lanes/region.rs"],
    ),
    ("memmap2", "shim/", &["shim/src/region.rs"]),
];

/// Dependencies that a room's manifest must not name, in any section.
const FORBIDDEN_DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "layout/Cargo.toml",
        &["ringlane-sidecar", "ringlane-shim", "ringlane-tests", "nix", "libc", "memmap2", "crossbeam", "rayon", "shared_memory", "pyo3"],
    ),
    ("sidecar/Cargo.toml", &["ringlane-shim", "ringlane-tests", "pyo3"]),
    ("shim/Cargo.toml", &["ringlane-sidecar", "ringlane-tests", "crossbeam", "rayon", "shared_memory"]),
    ("tests/Cargo.toml", &["ringlane-shim", "pyo3", "shared_memory"]),
];

/// The shim has fewer lines, comments and blank lines too: what Python and the layout crate cannot do, and nothing more.
const SHIM_LINES_MAX: usize = 1_000;

/// A file with its path from the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn planted(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// Its lines with their numbers, without comments, so that words about a thing are not the thing. None of this file's,
    /// which names everything that is forbidden.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines().map(|line| line.split("//").next().unwrap_or("")));
        lines.filter(|_| self.path != "tests/tests/tidy.rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of the rooms with one of these endings.
fn tree(endings: &[&str]) -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_foreign = name.to_string_lossy().starts_with('.') || name == "target" || name == "wheel-data" || name == "__pycache__";
            match path.is_dir() {
                true if !is_foreign => walk(&path, found),
                true => {}
                false => found.push(path),
            }
        }
    }
    let mut paths = Vec::new();
    for room in ["layout", "sidecar", "shim", "tests", "python"] {
        walk(&root().join(room), &mut paths);
    }
    paths.retain(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)));
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| Source { path: name(path), text: std::fs::read_to_string(path).unwrap() }).collect()
}

/// Whether `name` stands in the line as a whole: no letter, digit or underscore goes on behind or before it.
fn names(line: &str, name: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + name.len()..].chars().next());
        !is_word(before) && (name.ends_with(':') || !is_word(after))
    })
}

// ---- the rules: each gives its complaints about one file ----

fn opening(source: &Source) -> Vec<String> {
    let mut lines = source.text.lines().skip_while(|line| line.starts_with("#!/"));
    let expected = if source.path.ends_with(".rs") { "//! " } else { "\"\"\"" };
    let opens = lines.next().is_some_and(|line| line.starts_with(expected));
    if opens { Vec::new() } else { vec![format!("{}: the first line must say what the file is for ({expected})", source.path)] }
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if UNSAFE_FILES.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let found = source.code().filter(|(_, line)| names(line, "unsafe"));
    found.map(|(number, _)| format!("{}:{number}: `unsafe` has no place in this file", source.path)).collect()
}

fn imports(source: &Source) -> Vec<String> {
    let forbidden = FORBIDDEN.iter().filter(|(below, _)| source.path.starts_with(below)).flat_map(|(_, names)| *names);
    let misplaced =
        ROOMS_OF_CRATES.iter().filter(|(_, room, files)| source.path.starts_with(room) && !files.contains(&source.path.as_str()));
    let all: Vec<&str> = forbidden.copied().chain(misplaced.map(|(name, ..)| *name)).collect();
    let complain = |(number, name)| format!("{}:{number}: `{name}` has no place in this file", source.path);
    source
        .code()
        .flat_map(|(number, line)| all.iter().filter(move |name| names(line, name)).map(move |name| (number, *name)))
        .map(complain)
        .collect()
}

fn dependencies(source: &Source) -> Vec<String> {
    let Some((_, forbidden)) = FORBIDDEN_DEPENDENCIES.iter().find(|(path, _)| *path == source.path) else { return Vec::new() };
    let key = |line: &str| line.split(['.', '=', ' ']).next().unwrap_or("").trim_matches('"').to_owned();
    let found = source.text.lines().map(key).filter(|key| forbidden.contains(&key.as_str()));
    found.map(|name| format!("{}: this room does not depend on {name}", source.path)).collect()
}

fn top_level(entries: &[String], ignored: &str) -> Vec<String> {
    let allows = |pattern: &str, entry: &str| pattern.strip_suffix('*').map_or(pattern == entry, |start| entry.starts_with(start));
    let ignores = |entry: &str| ignored.lines().any(|line| line.trim_matches('/') == entry);
    let stray = entries.iter().filter(|entry| !TOP_LEVEL.iter().any(|pattern| allows(pattern, entry)) && !ignores(entry));
    stray.map(|entry| format!("{entry}: has no place at the top of the repository")).collect()
}

fn shim_size(sources: &[Source]) -> Vec<String> {
    let lines: usize = sources.iter().filter(|source| source.path.starts_with("shim/src/")).map(|source| source.text.lines().count()).sum();
    if lines < SHIM_LINES_MAX { Vec::new() } else { vec![format!("shim/src has {lines} lines; it must have fewer than {SHIM_LINES_MAX}")] }
}

// ---- each rule over the tree, and red once ----

fn check(rule: fn(&Source) -> Vec<String>, endings: &[&str], red: &[(&str, &str)], green: &[(&str, &str)]) {
    for (path, text) in red {
        assert!(!rule(&Source::planted(path, text)).is_empty(), "the rule does not see {text:?} in {path}");
    }
    for (path, text) in green {
        assert_eq!(rule(&Source::planted(path, text)), [""; 0], "the rule sees what is not there");
    }
    let sources = tree(endings);
    assert!(sources.len() >= 4, "the tree was not found");
    let complaints: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let red = [("sidecar/src/a.rs", "use std::fs;\n//! late"), ("tests/a.py", "import os"), ("python/a.py", ""), ("layout/a.rs", "//!")];
    let green = [("sidecar/src/a.rs", "//! A room.\n"), ("tests/a.py", "#!/usr/bin/env python3\n\"\"\"A test.\"\"\"\n")];
    check(opening, &[".rs", ".py"], &red, &green);
}

#[test]
fn unsafe_stands_in_listed_files_only() {
    let red = [("sidecar/src/status.rs", "let a = unsafe { b() };"), ("shim/src/lane.rs", "unsafe impl Send for Lane {}")];
    let green = [("sidecar/src/status.rs", "#![deny(unsafe_code)] // unsafe"), ("sidecar/src/board/writer.rs", "unsafe {}")];
    check(unsafe_code, &[".rs"], &red, &green);
    for file in UNSAFE_FILES {
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(names(&text, "unsafe"), "{file} is listed and holds no `unsafe`");
    }
}

#[test]
fn rooms_import_only_what_they_may() {
    let red = [
        ("layout/src/ring.rs", "use nix::sys::mman;"),
        ("layout/src/ring.rs", "let map = memmap2::MmapRaw::from(x);"),
        ("layout/tests/loom.rs", "use ringlane_sidecar::engine::Engine;"),
        ("sidecar/src/main.rs", "use pyo3::prelude::*;"),
        ("sidecar/src/status.rs", "use shared_memory::ShmemConf;"),
        ("sidecar/src/sequencer.rs", "use memmap2::MmapRaw;"),
        ("sidecar/src/kernels/orders/mod.rs", "use crate::lanes::Lane;"),
        ("sidecar/src/kernels/orders/mod.rs", "let now = std::time::Instant::now();"),
        ("sidecar/src/journal/reader.rs", "use crate::engine::Engine;"),
        ("sidecar/src/lanes/mod.rs", "use crate::journal::Writer;"),
        ("shim/src/lane.rs", "use ringlane_sidecar::board::Board;"),
        ("shim/src/lane.rs", "use ringlane_layout::orders::OrderRequest;"),
        ("shim/src/field.rs", "let symbol = 1;"),
        ("shim/src/lane.rs", "use memmap2::MmapRaw;"),
        ("shim/src/lane.rs", "use rayon::prelude::*;"),
        ("tests/src/lib.rs", "use pyo3::prelude::*;"),
    ];
    let green = [
        ("sidecar/src/board/writer.rs", "use shared_memory::ShmemConf;"),
        ("sidecar/src/status.rs", "// memmap2 stays outside"),
        ("shim/src/region.rs", "use memmap2::MmapRaw;"),
        ("layout/src/ring.rs", "let unix = phoenix;"),
    ];
    check(imports, &[".rs"], &red, &green);
}

#[test]
fn manifests_depend_only_on_what_their_room_may_use() {
    let red = [
        ("layout/Cargo.toml", "[dependencies]\nnix.workspace = true"),
        ("shim/Cargo.toml", "ringlane-sidecar = { path = \"../sidecar\" }"),
        ("sidecar/Cargo.toml", "pyo3 = \"0.30\""),
        ("tests/Cargo.toml", "shared_memory.workspace = true"),
    ];
    let green = [("sidecar/Cargo.toml", "nix.workspace = true"), ("layout/Cargo.toml", "# nix stays outside")];
    check(dependencies, &["Cargo.toml"], &red, &green);
}

#[test]
fn nothing_strays_at_the_top() {
    let names = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
    assert_eq!(top_level(&names(&["docs", "LICENSE-MIT", "target", "notes.txt"]), "/target/\n").len(), 2);
    let entries = std::fs::read_dir(root()).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap();
    assert_eq!(top_level(&entries.collect::<Vec<_>>(), &ignored), [""; 0]);
}

#[test]
fn a_shim_that_grows_is_noticed() {
    assert!(!shim_size(&[Source::planted("shim/src/lane.rs", &"\n".repeat(SHIM_LINES_MAX))]).is_empty());
}

#[test]
fn the_shim_stays_small() {
    assert_eq!(shim_size(&tree(&[".rs"])), [""; 0]);
}
