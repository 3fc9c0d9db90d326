//! How much memory the sidecar can still take before the host, or its control group, begins to kill for it.
//! What cannot be read is not held against anybody: reserving the memory has the last word.

use std::path::{Path, PathBuf};

/// Memory that can be had, bytes; none when nothing says so.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:")).map(|kib| kib * 1024);
    let groups = control_groups().into_iter().filter_map(|directory| left_in(&directory));
    groups.chain(host).min()
}

/// The number behind a word at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The control groups (version 2) whose limits the process lives under, its own first.
fn control_groups() -> Vec<PathBuf> {
    const ROOT: &str = "/sys/fs/cgroup";
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let own = Path::new(ROOT).join(path);
    own.ancestors().take_while(|directory| directory.starts_with(ROOT)).map(Path::to_owned).collect()
}

/// What a control group has left: its limit less what it uses, pages of files that can be dropped not counted.
fn left_in(directory: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
    let max: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let droppable = field(&stat, "inactive_file ").unwrap_or(0) + field(&stat, "active_file ").unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(droppable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_leaves_what_its_limit_and_its_use_say() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        assert_eq!(left_in(directory.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left_in(directory.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in(directory.path()), Some(300));
        write("memory.stat", "anon 500\ninactive_file 150\nactive_file 50\n");
        assert_eq!(left_in(directory.path()), Some(500));
        write("memory.current", "5000\n");
        assert_eq!(left_in(directory.path()), Some(0));
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }
}
