//! `ringlane doctor`: what in this host, its limits and its sidecar would make trouble, with a remedy for each finding.

use std::fmt::Write;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::statvfs::statvfs;
use ringlane_layout::board::{LANE, header, lane};
use serde_json::{Value, json};

use crate::board::{BoardReader, text_of};
use crate::control::knows_process_ends;
use crate::sequencer::wall_clock_ns;
use crate::status::health;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Fine,
    /// It works, and could work better or soon not.
    Doubtful,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What was looked at.
    pub topic: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// What was seen.
    pub words: String,
    /// What to do about it; empty when it is fine.
    pub remedy: String,
}

impl Finding {
    fn fine(topic: &'static str, words: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Fine, words: words.into(), remedy: String::new() }
    }

    fn doubtful(topic: &'static str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Doubtful, words: words.into(), remedy: remedy.into() }
    }

    fn bad(topic: &'static str, words: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Bad, words: words.into(), remedy: remedy.into() }
    }
}

/// Descriptors that a sidecar of some hundred clients takes, six each.
const DESCRIPTORS_WISHED: u64 = 8192;
/// Free space that a journal's disk should have: several segments, bytes.
const DISK_BYTES_WISHED: u64 = 2 << 30;
/// Least Linux: 5.14 knows everything that is used.
const LINUX_MIN: (u32, u32) = (5, 14);

/// Looks at everything. `journal` is the journal's directory, where one is known.
#[must_use]
pub fn examine(address: &str, journal: Option<&Path>) -> Vec<Finding> {
    let mut findings = vec![linux(), memfd_seals(), pidfd(), shared_segments(), descriptors(), locked_memory(), huge_pages()];
    findings.push(socket_answers(address));
    match BoardReader::open(address) {
        Ok(board) => {
            findings.push(sidecar(&board));
            findings.push(versions(&board));
            findings.extend(lanes(&board));
        }
        Err(words) => findings.push(Finding::doubtful("board", words, "start the sidecar, or name its address with --address")),
    }
    findings.extend(journal.map(disk));
    findings
}

/// The exit code: 0 all fine, 1 doubts, 2 something does not work.
#[must_use]
pub fn exit_code(findings: &[Finding]) -> u8 {
    findings.iter().map(|finding| finding.grade as u8).max().unwrap_or(0)
}

/// The findings for people, worst last, each with its remedy.
#[must_use]
pub fn findings_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.grade);
    for finding in sorted {
        let mark = match finding.grade {
            Grade::Fine => "ok",
            Grade::Doubtful => "doubt",
            Grade::Bad => "BAD",
        };
        let _ = writeln!(text, "{mark:<6}{:<16}{}", finding.topic, finding.words);
        if !finding.remedy.is_empty() {
            let _ = writeln!(text, "{:22}remedy: {}", "", finding.remedy);
        }
    }
    text
}

/// The findings for programs.
#[must_use]
pub fn findings_json(findings: &[Finding]) -> Value {
    let grade = |grade: Grade| match grade {
        Grade::Fine => "fine",
        Grade::Doubtful => "doubtful",
        Grade::Bad => "bad",
    };
    let each = |finding: &Finding| json!({"topic": finding.topic, "grade": grade(finding.grade), "words": finding.words, "remedy": finding.remedy});
    findings.iter().map(each).collect()
}

fn linux() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let words = format!("Linux {}", release.trim());
    if version >= LINUX_MIN {
        Finding::fine("kernel", words)
    } else {
        Finding::bad("kernel", words, format!("Ringlane needs Linux {}.{} or later", LINUX_MIN.0, LINUX_MIN.1))
    }
}

fn memfd_seals() -> Finding {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL;
    let sealed = memfd_create(c"ringlane-doctor", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .and_then(|file| fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals)));
    match sealed {
        Ok(_) => Finding::fine("memory seals", "memfd takes SHRINK, GROW, FUTURE_WRITE and SEAL"),
        Err(error) => Finding::bad(
            "memory seals",
            format!("a memfd cannot be sealed: {error}"),
            "lanes cannot be protected here: use Linux 5.14 or later, and allow memfd_create and fcntl in the seccomp profile",
        ),
    }
}

fn pidfd() -> Finding {
    if knows_process_ends() {
        return Finding::fine("process ends", "a descriptor tells of a process's end (pidfd)");
    }
    Finding::doubtful(
        "process ends",
        "there is no descriptor that tells of a process's end (pidfd)",
        "a client's end is then seen by its socket alone; allow pidfd_open in the seccomp profile",
    )
}

fn shared_segments() -> Finding {
    let path = Path::new("/dev/shm");
    match statvfs(path) {
        Ok(free) => {
            let bytes = free.blocks_available() * free.fragment_size();
            let words = format!("/dev/shm has {} MiB free", bytes >> 20);
            let remedy = "the board needs half a MiB there: remove what is not needed, or mount it larger (--shm-size in containers)";
            if bytes < 1 << 20 { Finding::bad("shared memory", words, remedy) } else { Finding::fine("shared memory", words) }
        }
        Err(error) => Finding::bad("shared memory", format!("/dev/shm: {error}"), "mount a tmpfs at /dev/shm"),
    }
}

fn descriptors() -> Finding {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Finding::fine("descriptors", "not known") };
    let words = format!("a process may open {hard} descriptors; a client with a lane takes six in the sidecar");
    if hard >= DESCRIPTORS_WISHED {
        Finding::fine("descriptors", words)
    } else {
        Finding::doubtful("descriptors", words, format!("set LimitNOFILE={DESCRIPTORS_WISHED} or more in the unit (ulimit -Hn)"))
    }
}

fn locked_memory() -> Finding {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK) else { return Finding::fine("locked memory", "not known") };
    let words = if hard == nix::libc::RLIM_INFINITY { "no limit".into() } else { format!("limit {} KiB", hard >> 10) };
    Finding::fine("locked memory", format!("{words}; lanes are reserved, not locked, and need none"))
}

fn huge_pages() -> Finding {
    let mode = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let chosen = mode.split(['[', ']']).nth(1).unwrap_or("unknown");
    match chosen {
        "always" | "within_size" | "force" => Finding::doubtful(
            "huge pages",
            format!("shared memory uses huge pages ({chosen})"),
            "a small lane may then take 2 MiB: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
        ),
        chosen => Finding::fine("huge pages", format!("shared memory: {chosen}")),
    }
}

fn socket_answers(address: &str) -> Finding {
    let path = Path::new(address);
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let remedy = "start the sidecar (systemctl start ringlane, or ringlane serve), or set RINGLANE_SOCKET to where it listens";
            return Finding::bad("socket", format!("there is nothing at {address}"), remedy);
        }
        Err(error) => {
            let remedy = "this user may not look there: add it to the socket's group";
            return Finding::bad("socket", format!("{address}: {error}"), remedy);
        }
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connected = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
        .and_then(|fd| UnixAddr::new(path).and_then(|address| connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address)));
    let words = format!("{address} (mode {:o}, user {}, group {})", found.mode() & 0o7777, found.uid(), found.gid());
    match connected {
        Ok(()) => Finding::fine("socket", format!("{words} takes connections")),
        Err(nix::errno::Errno::EACCES) => Finding::bad(
            "socket",
            format!("{words} is closed to this user"),
            format!("add this user to group {} (usermod -aG), and log in again", found.gid()),
        ),
        Err(nix::errno::Errno::ECONNREFUSED) => {
            Finding::bad("socket", format!("{words} is a leftover: nobody listens"), "start the sidecar: it replaces the socket")
        }
        Err(error) => Finding::bad("socket", format!("{words}: {error}"), "look at the sidecar's log (journalctl -u ringlane)"),
    }
}

fn sidecar(board: &BoardReader) -> Finding {
    let health = health(board, wall_clock_ns());
    let words = format!("pid {} is {health}", board.word(header::PID));
    let remedy = match health {
        "healthy" => return Finding::fine("sidecar", words),
        "journal-failed" => "free space on the journal's disk, then restart the sidecar",
        "stalled" => "its core is taken: give it one of its own (sequencer.cpu), and look at what else runs there",
        "stopping" => "wait for its end, then start it again",
        _ => "start it again; clients connect anew",
    };
    Finding::bad("sidecar", words, remedy)
}

fn versions(board: &BoardReader) -> Finding {
    let (version, build) = (board.text(header::VERSION, 3), board.text(header::BUILD, 2));
    let words =
        format!("sidecar {version} (build {build}), this program {} (build {})", env!("CARGO_PKG_VERSION"), ringlane_layout::BUILD_HASH);
    if build == ringlane_layout::BUILD_HASH {
        Finding::fine("versions", words)
    } else {
        Finding::doubtful("versions", words, "install the same ringlane for the sidecar and its clients, and restart both")
    }
}

/// What single lanes suffer from, one finding a lane, the worst few only.
fn lanes(board: &BoardReader) -> Vec<Finding> {
    let rows = board.rows(&LANE);
    let held = |row: &crate::board::Row| row[lane::COMPLETED].saturating_sub(row[lane::RELEASED]);
    let complaints = rows.filter_map(|row| {
        let (number, pid) = (row[lane::LANE], row[lane::PID]);
        if row[lane::EVENTS_DROPPED] > 0 {
            let words = format!("lane {number} (pid {pid}) lost {} events", row[lane::EVENTS_DROPPED]);
            return Some(Finding::doubtful("events", words, "read lane.events() more often, or open the lane with more `events`"));
        }
        let build = text_of(&bytemuck::cast_slice(&row)[lane::BUILD * 8..(lane::BUILD + 2) * 8]);
        if !build.is_empty() && build != board.text(header::BUILD, 2) {
            let words = format!("the client of lane {number} (pid {pid}) is build {build}, not the sidecar's");
            return Some(Finding::doubtful("versions", words, "install the same ringlane on both sides, and restart the client"));
        }
        let is_full = held(&row) * 10 > row[lane::DEPTH] * 9;
        let words = format!("lane {number} (pid {pid}) holds {} of {} slots", held(&row), row[lane::DEPTH]);
        is_full.then(|| Finding::doubtful("slots", words, "let result arrays go (copy=True), or open a deeper lane"))
    });
    complaints.take(8).collect()
}

fn disk(directory: &Path) -> Finding {
    match statvfs(directory) {
        Ok(free) => {
            let bytes = free.blocks_available() * free.fragment_size();
            let words = format!("the journal's disk has {} MiB free ({})", bytes >> 20, directory.display());
            let remedy = "free space or move journal.directory: without room for the next segment the sidecar takes no orders";
            if bytes < DISK_BYTES_WISHED { Finding::doubtful("journal disk", words, remedy) } else { Finding::fine("journal disk", words) }
        }
        Err(error) => Finding::bad(
            "journal disk",
            format!("{}: {error}", directory.display()),
            "create the directory and give it to the sidecar's user, or correct journal.directory",
        ),
    }
}
