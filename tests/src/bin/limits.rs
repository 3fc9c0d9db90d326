//! What this machine allows at best, measured beside every benchmark: one subcommand a limit, one line of JSON each.
//! Nothing of Ringlane's own exchange runs here; two bare processes, a file and memory are all there is.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use ringlane_layout::limits::{HOT_WORD_STRIDE_BYTES, PAGE_BYTES, RECORD_BYTES};
use ringlane_layout::shared::{RecordRing, SharedBytes};

/// Offsets of the two words that the pairs below play with; each alone on its cache lines.
const PING: usize = 0;
const PONG: usize = HOT_WORD_STRIDE_BYTES;
/// Spins before a waiting side looks at the clock or gives up; far beyond any real wait, so a lost peer ends the program.
const SPINS_MAX: u64 = 20_000_000_000;

#[derive(Parser)]
#[command(about = "Measures one physical limit and prints it as a line of JSON; times in ns, rates in 1/s")]
struct Cli {
    #[command(subcommand)]
    limit: Limit,
    /// Core of the asking side.
    #[arg(long, default_value_t = 0, global = true)]
    client_cpu: usize,
    /// Core of the answering side.
    #[arg(long, default_value_t = 1, global = true)]
    server_cpu: usize,
}

#[derive(Subcommand)]
enum Limit {
    /// One cache line there and back, both sides spinning.
    CacheLine(Count),
    /// Sleep and wake both ways over two futexes.
    Futex(Paced),
    /// 64 bytes there and back over a Unix stream socket, blocking reads.
    Socket(Paced),
    /// A 64-byte record echoed over shared memory, at a given rate on the clock, timed from the scheduled moment.
    Echo {
        /// Records a second.
        #[arg(long)]
        rate: u64,
        /// Length of the run, seconds.
        #[arg(long)]
        seconds: f64,
    },
    /// Records echoed over shared memory in batches, as many as go.
    Stream {
        /// Records to echo.
        #[arg(long, default_value_t = 20_000_000)]
        records: u64,
        /// Records a batch.
        #[arg(long, default_value_t = 4096)]
        batch: u64,
        /// Slots of each ring, a power of two.
        #[arg(long, default_value_t = 65_536)]
        depth: u64,
    },
    /// Copying memory that no cache holds, one core.
    Copy {
        /// Bytes to copy in one go.
        #[arg(long, default_value_t = 256 << 20)]
        bytes: usize,
    },
    /// Appending 64-byte records to a preallocated, mapped and touched file.
    Append {
        /// Directory for the file, which is removed again.
        #[arg(long)]
        directory: PathBuf,
        /// Records to append.
        #[arg(long, default_value_t = 4_000_000)]
        records: usize,
    },
}

#[derive(Args)]
struct Count {
    /// Round trips.
    #[arg(long, default_value_t = 200_000)]
    count: u64,
}

#[derive(Args)]
struct Paced {
    /// Round trips.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Sleep before each, microseconds, so that both sides are surely asleep.
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
}

/// The two cores of a pair of processes.
#[derive(Clone, Copy)]
struct Cores {
    client: usize,
    server: usize,
}

fn main() {
    let cli = Cli::parse();
    let cores = Cores { client: cli.client_cpu, server: cli.server_cpu };
    println!(
        "{}",
        match cli.limit {
            Limit::CacheLine(Count { count }) => latencies("cache_line", cache_line(cores, count)),
            Limit::Futex(paced) => latencies("futex", futex_pair(cores, &paced)),
            Limit::Socket(paced) => latencies("socket", socket(cores, &paced)),
            Limit::Echo { rate, seconds } => latencies("echo", scheduled_echo(cores, rate, seconds)),
            Limit::Stream { records, batch, depth } => rate("stream", records as f64, stream(cores, records, batch, depth)),
            Limit::Copy { bytes } => rate("copy", bytes as f64, copy(cores, bytes)),
            Limit::Append { directory, records } => rate("append", records as f64, append(cores, &directory, records)),
        }
    );
}

/// One line about a run of timed round trips, with the cost of the timer itself, which every one of them contains.
fn latencies(name: &str, mut nanoseconds: Vec<u64>) -> String {
    nanoseconds.sort_unstable();
    let at = |fraction: f64| nanoseconds[((nanoseconds.len() - 1) as f64 * fraction) as usize];
    format!(
        r#"{{"limit": "{name}", "count": {}, "p50_ns": {}, "p90_ns": {}, "p99_ns": {}, "p999_ns": {}, "max_ns": {}, "timer_ns": {}}}"#,
        nanoseconds.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
        timer_cost_ns()
    )
}

fn rate(name: &str, units: f64, took: Duration) -> String {
    format!(r#"{{"limit": "{name}", "per_second": {:.0}, "seconds": {:.6}}}"#, units / took.as_secs_f64(), took.as_secs_f64())
}

/// Median of an empty measurement.
fn timer_cost_ns() -> u64 {
    let mut empty: Vec<u64> = (0..10_001).map(|_| elapsed_ns(Instant::now())).collect();
    empty.sort_unstable();
    empty[empty.len() / 2]
}

fn elapsed_ns(since: Instant) -> u64 {
    since.elapsed().as_nanos() as u64
}

fn pin(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a core number that this kernel knows");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("the core can be used");
}

/// Runs `server` in a child process on its core and `client` here on its own; gives what the client measured.
fn pair<T>(cores: Cores, server: impl FnOnce(), client: impl FnOnce() -> T) -> T {
    // SAFETY: this process has a single thread, so the child finds every lock and the heap in a usable state.
    match unsafe { fork() }.expect("a second process") {
        ForkResult::Child => {
            set_pdeathsig(Signal::SIGKILL).expect("a child can ask to end with its parent");
            pin(cores.server);
            server();
            std::process::exit(0)
        }
        ForkResult::Parent { child } => {
            pin(cores.client);
            let measured = client();
            waitpid(child, None).expect("the child ends by itself");
            measured
        }
    }
}

/// Shared, zeroed and resident memory; the mapping lives as long as the first part of the pair.
fn shared(len: usize) -> (MmapRaw, SharedBytes) {
    let memory = File::from(memfd_create("limits", MFdFlags::MFD_CLOEXEC).expect("a memfd"));
    fallocate(&memory, FallocateFlags::empty(), 0, len as i64).expect("room in memory");
    let map = MmapOptions::new().len(len).populate().map_raw(&memory).expect("a mapping");
    // SAFETY: the mapping is page aligned, writable, `len` long and returned beside the view; no reference into it exists.
    let bytes = unsafe { SharedBytes::new(map.as_mut_ptr(), len) };
    (map, bytes)
}

/// Spins until the word at `offset` is at least `target`, and gives what was read.
#[inline]
fn spin_until(bytes: &SharedBytes, offset: usize, target: u64) -> u64 {
    for _ in 0..SPINS_MAX {
        let now = bytes.word(offset).load(Acquire); // Pairs with the Release store of the other side.
        if now >= target {
            return now;
        }
        std::hint::spin_loop();
    }
    panic!("the other side is gone");
}

fn cache_line(cores: Cores, count: u64) -> Vec<u64> {
    let (_map, bytes) = shared(PAGE_BYTES);
    let server = || {
        for turn in 1..=count {
            spin_until(&bytes, PING, turn);
            bytes.word(PONG).store(turn, Release);
        }
    };
    pair(cores, server, || {
        (1..=count)
            .map(|turn| {
                let start = Instant::now();
                bytes.word(PING).store(turn, Release);
                spin_until(&bytes, PONG, turn);
                elapsed_ns(start)
            })
            .collect()
    })
}

/// Wakes or waits on the low half of the word at `offset`; a wait returns at once when it is not `value` any more.
fn futex(bytes: &SharedBytes, offset: usize, operation: i32, value: u64) {
    let word = bytes.word(offset).as_ptr().cast::<u32>();
    // SAFETY: the address is a live, aligned word (its low half, x86 and arm being little-endian); no timeout is passed.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, value as u32, std::ptr::null::<libc::timespec>()) };
}

fn sleep_until(bytes: &SharedBytes, offset: usize, target: u64) {
    loop {
        let now = bytes.word(offset).load(Acquire); // Pairs with the Release store of the other side.
        if now >= target {
            return;
        }
        futex(bytes, offset, libc::FUTEX_WAIT, now);
    }
}

fn set_and_wake(bytes: &SharedBytes, offset: usize, value: u64) {
    bytes.word(offset).store(value, Release);
    futex(bytes, offset, libc::FUTEX_WAKE, 1);
}

/// Times `turn` after the pause that lets both sides fall asleep.
fn paced(paced: &Paced, mut turn: impl FnMut(u64)) -> Vec<u64> {
    (1..=paced.count)
        .map(|number| {
            if paced.pause_us > 0 {
                std::thread::sleep(Duration::from_micros(paced.pause_us));
            }
            let start = Instant::now();
            turn(number);
            elapsed_ns(start)
        })
        .collect()
}

fn futex_pair(cores: Cores, pace: &Paced) -> Vec<u64> {
    let (_map, bytes) = shared(PAGE_BYTES);
    let server = || {
        for turn in 1..=pace.count {
            sleep_until(&bytes, PING, turn);
            set_and_wake(&bytes, PONG, turn);
        }
    };
    pair(cores, server, || {
        paced(pace, |turn| {
            set_and_wake(&bytes, PING, turn);
            sleep_until(&bytes, PONG, turn);
        })
    })
}

fn socket(cores: Cores, pace: &Paced) -> Vec<u64> {
    let (mut ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    let server = || {
        let mut record = [0_u8; RECORD_BYTES];
        for _ in 0..pace.count {
            theirs.read_exact(&mut record).expect("a whole record");
            theirs.write_all(&record).expect("room for a record");
        }
    };
    pair(cores, server, || {
        let mut record = [1_u8; RECORD_BYTES];
        paced(pace, |_| {
            ours.write_all(&record).expect("room for a record");
            ours.read_exact(&mut record).expect("a whole record");
        })
    })
}

/// A bare lane: `depth` request slots, then `depth` result slots, behind one page of cursors.
fn bare_lane(bytes: SharedBytes, depth: u64) -> (RecordRing, RecordRing) {
    let requests = RecordRing::new(bytes, PAGE_BYTES, depth);
    let results = RecordRing::new(bytes, PAGE_BYTES + depth as usize * RECORD_BYTES, depth);
    (requests, results)
}

fn bare_lane_bytes(depth: u64) -> usize {
    PAGE_BYTES + 2 * depth as usize * RECORD_BYTES
}

/// Copies what was submitted into the results, at most `batch` records at a time, until `total` are done.
fn echo_server(bytes: &SharedBytes, depth: u64, batch: u64, total: u64) {
    let (requests, results) = bare_lane(*bytes, depth);
    let mut scratch = vec![0_u8; batch as usize * RECORD_BYTES];
    let mut done = 0;
    while done < total {
        let count = (spin_until(bytes, PING, done + 1) - done).min(batch);
        let records = &mut scratch[..count as usize * RECORD_BYTES];
        requests.read(done, records);
        results.write(done, records);
        done += count;
        bytes.word(PONG).store(done, Release);
    }
}

fn scheduled_echo(cores: Cores, rate: u64, seconds: f64) -> Vec<u64> {
    const DEPTH: u64 = 64;
    let total = (rate as f64 * seconds) as u64;
    let (_map, bytes) = shared(bare_lane_bytes(DEPTH));
    pair(
        cores,
        || echo_server(&bytes, DEPTH, 1, total),
        || {
            let (requests, results) = bare_lane(bytes, DEPTH);
            let mut record = [1_u8; RECORD_BYTES];
            let start = Instant::now();
            (0..total)
                .map(|index| {
                    let due = start + Duration::from_nanos(index * 1_000_000_000 / rate);
                    while Instant::now() < due {
                        std::hint::spin_loop();
                    }
                    requests.write(index, &record);
                    bytes.word(PING).store(index + 1, Release);
                    spin_until(&bytes, PONG, index + 1);
                    results.read(index, &mut record);
                    elapsed_ns(due)
                })
                .collect()
        },
    )
}

fn stream(cores: Cores, records: u64, batch: u64, depth: u64) -> Duration {
    assert!(batch <= depth, "a batch must fit the ring");
    let (_map, bytes) = shared(bare_lane_bytes(depth));
    pair(
        cores,
        || echo_server(&bytes, depth, 256, records),
        || {
            let (requests, results) = bare_lane(bytes, depth);
            let mut scratch = vec![1_u8; batch as usize * RECORD_BYTES];
            let (mut submitted, mut read) = (0, 0);
            let start = Instant::now();
            while read < records {
                let completed = bytes.word(PONG).load(Acquire); // Pairs with the server's Release store.
                while read < completed {
                    let count = (completed - read).min(batch);
                    results.read(read, &mut scratch[..count as usize * RECORD_BYTES]);
                    read += count;
                }
                let count = batch.min(records - submitted);
                if count > 0 && submitted + count - read <= depth {
                    requests.write(submitted, &scratch[..count as usize * RECORD_BYTES]);
                    submitted += count;
                    bytes.word(PING).store(submitted, Release);
                }
            }
            start.elapsed()
        },
    )
}

/// The best of five copies, because the limit is what is asked for.
fn copy(cores: Cores, bytes: usize) -> Duration {
    pin(cores.client);
    let source = vec![1_u8; bytes];
    let mut target = vec![2_u8; bytes];
    (0..5)
        .map(|_| {
            let start = Instant::now();
            target.copy_from_slice(std::hint::black_box(&source));
            std::hint::black_box(&target);
            start.elapsed()
        })
        .min()
        .expect("five copies")
}

fn append(cores: Cores, directory: &std::path::Path, records: usize) -> Duration {
    pin(cores.client);
    let path = directory.join(format!("append-limit-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a new file");
    std::fs::remove_file(&path).expect("an open file can lose its name");
    let len = records * RECORD_BYTES;
    fallocate(&file, FallocateFlags::empty(), 0, len as i64).expect("room on the disk");
    let map = MmapOptions::new().len(len).map_raw(&file).expect("a mapping");
    // SAFETY: the mapping is page aligned, writable, `len` long and outlives the view; no reference into it exists.
    let bytes = unsafe { SharedBytes::new(map.as_mut_ptr(), len) };
    for page in (0..len).step_by(PAGE_BYTES) {
        bytes.word(page).store(0, Relaxed); // Touched, as the journal's helper touches pages ahead of the writer.
    }
    let record = [1_u8; RECORD_BYTES];
    let start = Instant::now();
    for index in 0..records {
        bytes.write(index * RECORD_BYTES, std::hint::black_box(&record));
    }
    start.elapsed()
}
