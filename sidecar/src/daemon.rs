//! The one file that wires the rooms: recovers the journal, opens the socket, and runs sequencer and control until the end.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};
#[cfg(feature = "otel")]
use ringlane_layout::board::TRACES;
use ringlane_layout::board::{CONTROL, SERVICE, board_name};
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::Record;

use crate::amendments::{Added, amend, frame_meta, void_records};
use crate::board::{AddressLock, Board, Identity, clear_leftovers};
use crate::config::{AccessConfig, Config, Durability, JournalConfig};
use crate::control::{Broadcast, Control, Host, Ledger, Lifetime, Policy, Questions, Refusals};
use crate::corpora::Corpora;
use crate::engine::{ENGINE_VERSION, Engine};
use crate::jobs::{Heat, JobRows, Jobs};
use crate::journal::{Epoch, FrameKind, JournalLock, LaneOpen, Writer, WriterConfig};
use crate::kernels::door::Kernels;
use crate::lanes::Kept;
use crate::metrics::answer_scrapes;
use crate::recovery::{self, Recovered};
#[cfg(feature = "sentry")]
use crate::reports::{Reports, tell_start};
use crate::sequencer::{Sequencer, SnapshotNews, wall_clock_ns};
use crate::service;
#[cfg(feature = "otel")]
use crate::traces::Exporter;

/// Where the system-wide sidecar listens.
pub const SYSTEM_SOCKET: &str = "/run/ringlane/ringlane.sock";

/// A sidecar that is ready, before its threads run.
pub struct Sidecar {
    /// The way in for orders.
    pub sequencer: Sequencer,
    /// The way in for clients.
    pub control: Control,
    /// Kernels beside that of orders.
    pub jobs: Jobs,
    /// The thread that serves them.
    pub jobs_thread: JoinHandle<()>,
    /// Where it serves.
    pub address: String,
    #[cfg(feature = "otel")]
    exporter: Option<Exporter>,
    /// Tells of panics and errors for as long as it is here.
    #[cfg(feature = "sentry")]
    _reports: Option<Reports>,
    /// Paths that are removed at the end.
    paths: Vec<PathBuf>,
    /// Held for life.
    pub locks: (Option<JournalLock>, AddressLock),
}

/// Runs a sidecar until it is told to stop. An error says in words why it cannot run.
/// `kernels` are those beside that of orders.
pub fn serve(config: Config, lifetime: Lifetime, kernels: Kernels) -> Result<(), String> {
    let signals = block_signals()?;
    raise_descriptor_limit();
    // Another process of the same user could otherwise open a lane's memory through /proc.
    nix::sys::prctl::set_dumpable(false).map_err(|error| format!("cannot protect the process: {error}"))?;
    let sidecar = assemble(config, lifetime, kernels, signals)?;
    let Sidecar { sequencer, control, jobs, jobs_thread, address, paths, .. } = sidecar;
    let control = std::thread::Builder::new()
        .name("control".into())
        .spawn(move || control.run())
        .map_err(|error| format!("cannot start the control thread: {error}"))?;
    service::ready(&format!("serving at {address}"));
    let engine = sequencer.run();
    let ended = control.join().map_err(|_| "the control thread panicked".to_owned());
    jobs.stop();
    let _ = jobs_thread.join();
    #[cfg(feature = "otel")]
    sidecar.exporter.into_iter().for_each(Exporter::stop);
    paths.iter().for_each(|path| drop(std::fs::remove_file(path)));
    tracing::info!(sequence = engine.next_sequence() - 1, state_hash = format!("{:016x}", engine.orders.state_hash()), "stopped");
    ended
}

/// Recovers the journal, takes the address, and puts everything together. `signals` are what control listens to.
pub fn assemble(config: Config, lifetime: Lifetime, kernels: Kernels, signals: SignalFd) -> Result<Sidecar, String> {
    #[cfg(feature = "sentry")]
    let reports = Reports::start(&config.sentry)?;
    let policy = Policy::new(&config.access)?;
    let (inherited, inherited_path) = service::inherited_socket()?.unzip();
    let is_inherited = inherited.is_some();
    let socket_path = inherited_path.or_else(|| config.socket.clone()).unwrap_or_else(|| PathBuf::from(SYSTEM_SOCKET));
    let address = socket_path.to_string_lossy().into_owned();
    let address_lock = AddressLock::take(&address)?;
    let lock = config.journal.directory.as_deref().map(JournalLock::take).transpose()?;
    let Start { mut engine, journal, epoch, snapshot, expected, told_ns } = recover(&config).inspect_err(|words| tell_start(words))?;
    engine.match_in_parallel(config.orders.threads, config.orders.parallel_batch_min)?;
    let lane_last = engine.lane_last();
    clear_leftovers();
    let identity = Identity { address: address.clone(), epoch, started_ns: wall_clock_ns(), config_hash: config.hash() };
    let board = Board::create(&identity, &address_lock)?;
    #[cfg(feature = "sentry")]
    reports.iter().for_each(|reports| reports.show_on(&board, &address));
    let (counters, refused) = (board.row(&CONTROL, 0), board.row(&CONTROL, 0));
    #[cfg(feature = "otel")]
    let traces_row = board.row(&TRACES, 0);
    let metrics_socket = config.metrics.socket.clone();
    answer_scrapes(&config.metrics, &address, board.row(&SERVICE, 0), config.sequencer.cpu)?;
    let listener = inherited.map_or_else(|| open_socket(&socket_path, &config.access), Ok)?;
    let heat = Arc::new(Heat::default());
    let (jobs, jobs_thread) = Jobs::start(JobRows::of(&board), Arc::clone(&heat), config.jobs.threads)?;
    let (mut sequencer, commands) = Sequencer::new(engine, journal, board, heat, config.sequencer.clone())?;
    sequencer.expect(expected, Duration::from_millis(config.lanes.reattach_grace_ms));
    sequencer.go_on_from(told_ns);
    #[cfg(feature = "otel")]
    let exporter = Exporter::start(&config.traces, traces_row)?;
    #[cfg(feature = "otel")]
    exporter.iter().for_each(|exporter| sequencer.trace_into(exporter.queue()));
    let snapshots = Arc::new(SnapshotNews::default());
    if let Some(directory) = &config.journal.directory {
        sequencer.snapshot_into(directory, config.snapshots.clone(), (epoch, snapshot), Arc::clone(&snapshots))?;
    }
    let journal_directory = config.journal.directory.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let host = Host {
        commands,
        jobs: jobs.clone(),
        corpora: Arc::new(Corpora::new(kernels.corpora.clone(), config.vectors.corpus_directory.clone(), config.vectors.corpus_bytes_max)),
        kernels,
        board: board_name(&address),
        address: address.clone(),
        journal: journal_directory,
        broadcast: Broadcast::default(),
        snapshots,
        lane_last,
        policy,
        ledger: Ledger::new(config.lanes.bytes_max),
        questions: Questions::default(),
        refusals: Refusals::new(refused),
        config,
        counters,
    };
    let control = Control::new(listener, signals, host, lifetime)?;
    tracing::info!(address, version = env!("CARGO_PKG_VERSION"), build = ringlane_layout::BUILD_HASH, "serving");
    // A socket unit keeps its socket: clients queue there until the next start.
    let paths = metrics_socket.into_iter().chain((!is_inherited).then_some(socket_path)).collect();
    Ok(Sidecar {
        sequencer,
        control,
        jobs,
        jobs_thread,
        address,
        #[cfg(feature = "otel")]
        exporter,
        #[cfg(feature = "sentry")]
        _reports: reports,
        paths,
        locks: (lock, address_lock),
    })
}

/// Without Sentry nobody is told but who reads the log.
#[cfg(not(feature = "sentry"))]
fn tell_start(_: &str) {}

/// A client with a lane takes six descriptors; the usual soft limit of 1,024 would be reached long before `CLIENTS_MAX`.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open descriptors could not be raised");
    }
}

/// SIGTERM, SIGINT and SIGHUP arrive as a descriptor, in every thread. SIGXFSZ arrives nowhere: a file or a lane that passes a
/// limit of size is an error in words.
fn block_signals() -> Result<SignalFd, String> {
    let (mut set, mut unheard) = (SigSet::empty(), SigSet::empty());
    unheard.add(Signal::SIGXFSZ);
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().for_each(|signal| set.add(signal));
    unheard
        .thread_block()
        .and_then(|()| set.thread_block())
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|error| format!("cannot take signals: {error}"))
}

/// What a start has to begin with.
struct Start {
    engine: Engine,
    journal: Option<Writer>,
    /// How often the journal was opened, this time included; and where its newest snapshot stands.
    epoch: u64,
    snapshot: u64,
    /// Lanes whose clients may come back.
    expected: Vec<(LaneOpen, Kept)>,
    /// Until when the journal knows that nothing was due, nanoseconds since 1970; 0: it knows nothing.
    told_ns: u64,
}

/// The engine as the journal left it, and the journal opened behind its end.
fn recover(config: &Config) -> Result<Start, String> {
    let Some(directory) = config.journal.directory.as_deref() else {
        let mut engine = Engine::new(random_seed());
        amend(&mut engine, config, &[])?;
        return Ok(Start { engine, journal: None, epoch: 0, snapshot: 0, expected: Vec::new(), told_ns: 0 });
    };
    let mut progress = service::Progress::default();
    let (kept, skip) = (config.snapshots.kept, config.source.skip);
    let Recovered { mut engine, mut lanes, epoch, next_index, snapshot, skipped: void, told_ns, tail, .. } =
        recovery::recover(directory, random_seed(), kept, skip, |records| progress.recovered(records))?;
    let epoch = epoch + 1;
    let start = frame_meta(&engine, FrameKind::End, 0, 0);
    let accounts = engine.orders.account_limits();
    let mut added: Vec<Added> = void.into_iter().map(|void| void_records(&mut engine, void)).collect();
    added.extend(amend(&mut engine, config, &accounts)?);
    let words = Epoch { number: epoch, engine_version: ENGINE_VERSION, request_schema_hash: OrderRequest::SCHEMA_HASH };
    let JournalConfig { durability, segment_bytes, prefault_bytes, retention_bytes, spare_segments, disk_hours_min, .. } = config.journal;
    let (is_mapped, avoid_cpu) = (durability == Durability::Process, config.sequencer.cpu);
    let writer_config =
        WriterConfig { segment_bytes, prefault_bytes, retention_bytes, spare_segments, disk_hours_min, is_mapped, avoid_cpu, void };
    if durability == Durability::Disk {
        tail.make_durable(directory)?;
    }
    let mut writer = Writer::open(directory, next_index, writer_config, words, &start)?;
    for (meta, records) in &added {
        writer.append_waiting(meta, records)?;
    }
    let expected = engine.open_lanes().iter().filter_map(|open| Some((*open, lanes.remove(&open.lane)?))).collect();
    Ok(Start { engine, journal: Some(writer), epoch, snapshot, expected, told_ns })
}

/// A seed that std draws from the kernel's randomness.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Binds the control socket. What a dead sidecar left there is removed; anything else is somebody's and stays.
fn open_socket(path: &Path, access: &AccessConfig) -> Result<OwnedFd, String> {
    let say = |error: &dyn std::fmt::Display| format!("cannot listen at {}: {error}", path.display());
    let address = UnixAddr::new(path).map_err(|error| say(&error))?;
    let make = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(|error| say(&error))
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(say(&error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(say(&"there is something else than a socket; remove it, or choose another path"));
        }
        Ok(_) if connect(make()?.as_raw_fd(), &address) == Err(Errno::ECONNREFUSED) => {
            std::fs::remove_file(path).map_err(|error| say(&error))?;
        }
        Ok(_) => return Err(say(&"another program listens there; end it, or choose another path")),
    }
    let listener = make()?;
    // From its first instant on nobody but its user and group may connect.
    let before = umask(Mode::from_bits_truncate(0o117));
    let bound = bind(listener.as_raw_fd(), &address);
    umask(before);
    bound.map_err(|error| say(&error))?;
    let gid = access.gid()?;
    std::os::unix::fs::chown(path, None, gid).map_err(|error| say(&error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode())).map_err(|error| say(&error))?;
    listen(&listener, Backlog::MAXALLOWABLE).map_err(|error| say(&error))?;
    Ok(listener)
}
