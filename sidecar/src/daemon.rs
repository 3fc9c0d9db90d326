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
use ringlane_layout::limits::BATCH_SLOTS_MAX;
use ringlane_layout::orders::{AccountLimits, BookLimits, Instrument, OrderRequest};
use ringlane_layout::record::{Record, RecordBytes};

use crate::board::{AddressLock, Board, Identity, clear_leftovers, text_of};
use crate::config::{AccessConfig, Config, Durability, JournalConfig};
use crate::configured::Configured;
use crate::control::{Broadcast, Control, Host, Ledger, Lifetime, Policy, Questions, Refusals};
use crate::corpora::Corpora;
use crate::engine::{ENGINE_VERSION, Engine};
use crate::jobs::{Heat, JobRows, Jobs};
use crate::journal::{Epoch, FrameKind, FrameMeta, JournalLock, LaneOpen, Void, VoidRange, Writer, WriterConfig};
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
        configure(&mut engine, config, &[])?;
        return Ok(Start { engine, journal: None, epoch: 0, snapshot: 0, expected: Vec::new(), told_ns: 0 });
    };
    let mut progress = service::Progress::default();
    let (kept, skip) = (config.snapshots.kept, config.source.skip);
    let Recovered { mut engine, mut lanes, epoch, next_index, snapshot, skipped: void, told_ns, tail, .. } =
        recovery::recover(directory, random_seed(), kept, skip, |records| progress.recovered(records))?;
    let epoch = epoch + 1;
    let start = frame_meta(&engine, FrameKind::End, 0, 0);
    let accounts = engine.orders.account_limits();
    let mut added: Vec<Added> = void.into_iter().map(|void| make_void(&mut engine, void)).collect();
    added.extend(configure(&mut engine, config, &accounts)?);
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

/// The frame that says that records are void.
fn make_void(engine: &mut Engine, void: VoidRange) -> Added {
    let added = frame(engine, FrameKind::Void, &[Void { first_sequence: void.first, last_sequence: void.last, ..Void::default() }]);
    engine.pass(1);
    added
}

/// A seed that std draws from the kernel's randomness.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A frame that is still to be journaled.
pub(crate) type Added = (FrameMeta, Vec<RecordBytes>);

/// Applies what the configuration adds to the engine's limits, instruments and accounts, and gives it as frames. They are
/// journaled only when all of it was applied: a configuration that is refused leaves the journal as it was.
pub(crate) fn configure(engine: &mut Engine, config: &Config, journaled: &[AccountLimits]) -> Result<Vec<Added>, String> {
    let mut added = Vec::new();
    let limits = BookLimits { resting_orders_max: config.orders.resting_orders_max as u64, ..BookLimits::default() };
    if limits.resting_orders_max != engine.orders.resting_orders_max() {
        added.push(frame(engine, FrameKind::BookLimits, &[limits]));
        engine.set_book_limits(&limits);
    }
    let known = engine.orders.instruments();
    // A file that names none has nothing against what the journal has.
    let keep = config.orders.instruments.is_empty() && !known.is_empty();
    let instruments = if keep { known.clone() } else { config.orders.instrument_records() };
    // What an administrator added while the sidecar ran need not stand in the file.
    let behind = known.get(instruments.len()..).unwrap_or_default();
    if let Some(missing) = behind.iter().find(|instrument| instrument.live == 0) {
        return Err(format!(
            "symbol {} is {} in the journal, and the configuration ends before it: instruments can be added behind the others, not \
             removed; restore the entry, or begin a new journal directory",
            missing.symbol,
            text_of(&missing.name)
        ));
    }
    if let Some((known, configured)) = known
        .iter()
        .zip(&instruments)
        .find(|(known, configured)| Instrument { live: 0, ..**known } != Instrument { live: 0, ..**configured })
    {
        return Err(instrument_changed(known, configured));
    }
    for instruments in instruments.get(known.len()..).unwrap_or_default().chunks(BATCH_SLOTS_MAX) {
        added.push(frame(engine, FrameKind::Instruments, instruments));
        instruments.iter().try_for_each(|instrument| engine.add_instrument(instrument))?;
    }
    let accounts = account_changes(engine, config, journaled)?;
    for accounts in accounts.chunks(BATCH_SLOTS_MAX) {
        added.push(frame(engine, FrameKind::Accounts, accounts));
        accounts.iter().try_for_each(|accounts| engine.set_accounts(accounts))?;
    }
    Ok(added)
}

/// The limits that the file says otherwise than when it was read last; what an administrator decided since then stays where it
/// does not. An account that the file had and has no more is an error.
fn account_changes(engine: &Engine, config: &Config, journaled: &[AccountLimits]) -> Result<Vec<AccountLimits>, String> {
    // A file that names none has nothing against what the journal has.
    if config.orders.accounts.is_empty() && !journaled.is_empty() {
        return Ok(Vec::new());
    }
    let file = config.orders.account_records();
    let before = &engine.configured;
    let named: Vec<AccountLimits> = if before.is_empty() { journaled.to_vec() } else { before.records().collect() };
    if let Some(account) = named.iter().filter(|range| range.symbol == 0).find_map(|range| first_unnamed(range, &file)) {
        return Err(format!(
            "account {account} is in the journal, and the configuration does not name it any more: accounts can be added and their \
             limits changed, not removed; restore the entry, or begin a new journal directory"
        ));
    }
    let file: Configured = file.into_iter().collect();
    let changes = before.changes(&file);
    let in_force: Configured = journaled.iter().copied().collect();
    // What is in force beside the file: an administrator's, unless the file is about to say otherwise.
    let live = in_force.changes(&file).into_iter().filter(|range| range.symbol == 0 && !changes.contains(range)).count();
    if live > 0 && !before.is_empty() {
        tracing::info!(
            ranges = live,
            "limits that an administrator set while the sidecar ran stay in force: the file's entries for these accounts have not changed since"
        );
    }
    Ok(changes)
}

/// First account of a range that no range of the configuration names.
fn first_unnamed(range: &AccountLimits, named: &[AccountLimits]) -> Option<u32> {
    let mut account = range.account_first;
    while let Some(around) = named.iter().find(|named| named.symbol == 0 && (named.account_first..=named.account_last).contains(&account)) {
        account = around.account_last + 1;
    }
    (account <= range.account_last).then_some(account)
}

/// A frame of these records as the next ones of the engine.
fn frame<T: Record>(engine: &Engine, kind: FrameKind, records: &[T]) -> Added {
    (frame_meta(engine, kind, 0, T::SCHEMA_HASH), records.iter().map(|record| bytemuck::cast(*record)).collect())
}

fn instrument_changed(known: &Instrument, configured: &Instrument) -> String {
    format!(
        "symbol {} is {} in the journal (decimals {}, tick {}, lot {}), and the configuration says {} (decimals {}, tick {}, lot {}): \
         instruments can be added behind the others, not changed; restore the entry, or begin a new journal directory",
        known.symbol,
        text_of(&known.name),
        known.price_decimals,
        known.tick,
        known.lot,
        text_of(&configured.name),
        configured.price_decimals,
        configured.tick,
        configured.lot
    )
}

fn frame_meta(engine: &Engine, kind: FrameKind, lane: u32, schema_hash: u64) -> FrameMeta {
    let (first_sequence, output_hash) = (engine.next_sequence(), engine.output_hash());
    FrameMeta { kind, lane, first_sequence, first_slot: 0, schema_hash, output_hash, time_ns: wall_clock_ns(), waiting_slots: 0 }
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
