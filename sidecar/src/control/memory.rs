//! How much memory the sidecar can still take before the host, or its control group, begins to kill for it.
//! What cannot be read is not held against anybody: reserving the memory has the last word.

use std::path::{Path, PathBuf};

/// Memory that can be had, bytes; none when nothing says so.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:")).map(|kib| kib * 1024);
    VERSIONS.iter().flat_map(left_in_groups).chain(host).min()
}

/// The number behind a word at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Names of what a version of control groups says: limit, use, and pages of files that can be dropped.
struct Names {
    /// Where it is mounted.
    root: &'static str,
    /// What its line in /proc/self/cgroup holds before the path.
    line: &'static str,
    limit: &'static str,
    used: &'static str,
    droppable: [&'static str; 2],
}

const VERSIONS: [Names; 2] = [
    Names {
        root: "/sys/fs/cgroup",
        line: "0::",
        limit: "memory.max",
        used: "memory.current",
        droppable: ["inactive_file ", "active_file "],
    },
    Names {
        root: "/sys/fs/cgroup/memory",
        line: ":memory:",
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        droppable: ["total_inactive_file ", "total_active_file "],
    },
];

/// What every control group that the process lives under has left, its own first.
fn left_in_groups(names: &'static Names) -> impl Iterator<Item = u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| Some(line.split_once(names.line)?.1.trim_start_matches('/').to_owned()));
    let own = path.map(|path| Path::new(names.root).join(path)).unwrap_or_default();
    let groups: Vec<PathBuf> = own.ancestors().take_while(|directory| directory.starts_with(names.root)).map(Path::to_owned).collect();
    groups.into_iter().filter_map(|directory| left_in(&directory, names))
}

/// What a control group has left: its limit less what it uses, pages of files that can be dropped not counted.
fn left_in(directory: &Path, names: &Names) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    let max: u64 = read(names.limit)?.trim().parse().ok()?;
    let used: u64 = read(names.used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let droppable: u64 = names.droppable.iter().filter_map(|name| field(&stat, name)).sum();
    Some(max.saturating_sub(used.saturating_sub(droppable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_leaves_what_its_limit_and_its_use_say() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        assert_eq!(left_in(directory.path(), &VERSIONS[0]), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left_in(directory.path(), &VERSIONS[0]), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in(directory.path(), &VERSIONS[0]), Some(300));
        write("memory.stat", "anon 500\ninactive_file 150\nactive_file 50\n");
        assert_eq!(left_in(directory.path(), &VERSIONS[0]), Some(500));
        write("memory.current", "5000\n");
        assert_eq!(left_in(directory.path(), &VERSIONS[0]), Some(0));
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }
}
