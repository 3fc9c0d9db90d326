//! Allocations on the hot path, by an allocator that counts: a sequencer and one lane in this process, batches there and back.
//! After warming up there are none, however many orders come.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use memmap2::{MmapOptions, MmapRaw};
use ringlane_layout::orders::{AccountLimits, Op, OrderRequest, OrderType, Side, TimeInForce};
use ringlane_layout::record::Record;
use ringlane_layout::region::{LaneGeometry, LaneStatus, RING_OFFSET};
use ringlane_layout::ring::{self, ClientWords, SidecarWords};
use ringlane_layout::shared::{RecordRing, SharedBytes};
use ringlane_sidecar::board::{AddressLock, Board, Identity};
use ringlane_sidecar::config::{OrdersConfig, SequencerConfig};
use ringlane_sidecar::engine::{ENGINE_VERSION, Engine};
use ringlane_sidecar::jobs::Heat;
use ringlane_sidecar::journal::{Epoch, FrameKind, FrameMeta, LaneOpen, Writer, WriterConfig};
use ringlane_sidecar::lanes::{Lane, Owner};
use ringlane_sidecar::sequencer::{Command, Commands, Sequencer};

/// Counts what threads that said so allocate.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn count() {
    if COUNTED.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator; counting touches an atomic and a thread's own constant cell only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, and it is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEPTH: u64 = 1024;
const BATCH: usize = 256;

/// The client's side of a lane, as a client in another process has it.
struct Client {
    requests: SharedBytes,
    results: SharedBytes,
    ring: RecordRing,
    submitted: u64,
    doorbell: OwnedFd,
    _maps: [MmapRaw; 2],
}

impl Client {
    fn new(lane: &Lane) -> Self {
        let [requests, results, doorbell] = lane.fds().unwrap();
        let sizes = [lane.geometry.requests_bytes(), lane.geometry.results_bytes()];
        let requests = MmapOptions::new().len(sizes[0]).map_raw(&std::fs::File::from(requests)).unwrap();
        let results = MmapOptions::new().len(sizes[1]).map_raw_read_only(&std::fs::File::from(results)).unwrap();
        // SAFETY: mapped for so many bytes at page boundaries; the value keeps the maps and only loads from the second.
        let [a, b] = unsafe { [SharedBytes::new(requests.as_mut_ptr(), sizes[0]), SharedBytes::new(results.as_mut_ptr(), sizes[1])] };
        Self { requests: a, results: b, ring: RecordRing::new(a, RING_OFFSET, DEPTH), submitted: 0, doorbell, _maps: [requests, results] }
    }

    /// Submits a batch and waits for its results; they are given back at once.
    fn process(&mut self, orders: &[OrderRequest]) {
        self.ring.write(self.submitted, bytemuck::cast_slice(orders));
        self.submitted += orders.len() as u64;
        let (mine, theirs) = (ClientWords::of(&self.requests), SidecarWords::of(&self.results));
        if ring::publish(mine, theirs, self.submitted) {
            nix::unistd::write(&self.doorbell, &1u64.to_ne_bytes()).unwrap();
        }
        let until = Instant::now() + Duration::from_secs(20);
        while ring::completed(SidecarWords::of(&self.results)) < self.submitted {
            assert!(Instant::now() < until, "the sequencer does not answer");
            std::thread::yield_now();
        }
        ring::release(ClientWords::of(&self.requests), self.submitted);
        ring::release_events(ClientWords::of(&self.requests), ring::events_published(SidecarWords::of(&self.results)));
    }
}

/// Orders that rest, trade with each other and cancel, and leave the book as it was. Ids ascend over rounds.
fn batch(round: u64) -> Vec<OrderRequest> {
    let order = |index: usize| {
        let (turn, base) = (index % 4, round * BATCH as u64 + (index / 4 * 4) as u64 + 1);
        let side = if turn == 1 { Side::Sell } else { Side::Buy };
        OrderRequest {
            op: if turn == 3 { Op::Cancel } else { Op::New } as u8,
            side: side as u8,
            order_type: OrderType::Limit as u8,
            time_in_force: TimeInForce::Gtc as u8,
            symbol: 1,
            account: 1 + u32::from(turn == 1),
            client_order_id: base + if turn == 3 { 2 } else { turn as u64 },
            price: 1_000_000,
            quantity: 100,
            ..OrderRequest::default()
        }
    };
    (0..BATCH).map(order).collect()
}

fn engine() -> Engine {
    let mut engine = Engine::new(7);
    let config = OrdersConfig::default();
    config.instrument_records().iter().for_each(|instrument| engine.add_instrument(instrument).unwrap());
    config.account_records().iter().for_each(|accounts: &AccountLimits| engine.set_accounts(accounts).unwrap());
    engine
}

fn writer(directory: &std::path::Path, engine: &Engine) -> Writer {
    let config = WriterConfig { segment_bytes: 256 << 20, prefault_bytes: 16 << 20, ..WriterConfig::default() };
    let epoch = Epoch { number: 1, engine_version: ENGINE_VERSION, request_schema_hash: OrderRequest::SCHEMA_HASH };
    let start = FrameMeta {
        kind: FrameKind::End,
        lane: 0,
        first_sequence: engine.next_sequence(),
        first_slot: 0,
        schema_hash: 0,
        output_hash: engine.output_hash(),
        time_ns: 0,
        waiting_slots: 0,
    };
    Writer::open(directory, 1, config, epoch, &start).unwrap()
}

fn open(commands: &Commands, notify: OwnedFd) -> Client {
    let geometry = LaneGeometry::new(DEPTH, DEPTH).unwrap();
    let lane = Lane::create(1, Owner::default(), geometry, false, Arc::new(notify), 0).unwrap();
    let client = Client::new(&lane);
    let open = LaneOpen { lane: 1, account_first: 1, account_last: 10, depth_slots: DEPTH, ..LaneOpen::default() };
    let (answer, opened) = bounded(1);
    assert!(commands.send(Command::Open(Box::new(lane), open, answer)));
    opened.recv().unwrap().unwrap();
    client
}

#[test]
fn an_order_costs_no_allocation() {
    let directory = tempfile::tempdir().unwrap();
    let address = directory.path().join("socket").to_string_lossy().into_owned();
    let lock = AddressLock::take(&address).unwrap();
    let board = Board::create(&Identity { address, epoch: 1, started_ns: 1, config_hash: 0 }, &lock).unwrap();
    let engine = engine();
    let writer = writer(directory.path(), &engine);
    let (sequencer, commands) = Sequencer::new(engine, Some(writer), board, Arc::new(Heat::default()), SequencerConfig::default()).unwrap();
    let running = std::thread::spawn(move || {
        COUNTED.set(true);
        sequencer.run()
    });
    let (_mine, theirs) = UnixStream::pair().unwrap();
    let mut client = open(&commands, theirs.into());
    let singles: Vec<_> = (400..440).map(batch).collect();
    let batches: Vec<_> = (0..400).map(batch).collect();
    batches[..40].iter().for_each(|orders| client.process(orders));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the counter does not count");
    batches[40..].iter().for_each(|orders| client.process(orders));
    singles.iter().flat_map(|orders| orders.chunks(1)).for_each(|order| client.process(order));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let orders = (400 - 40 + 40) * BATCH as u64;
    assert!(commands.send(Command::Close(1, LaneStatus::Closed, None)));
    assert!(commands.send(Command::Stop));
    let engine = running.join().unwrap();
    let counters = engine.orders.counters();
    assert!(counters.accepted > orders && counters.trades > orders / 8, "the orders did nothing: {counters:?}");
    assert_eq!(allocations * 1000 / orders, 0, "{allocations} allocations in {orders} orders");
    assert_eq!(allocations, 0, "{allocations} allocations in {orders} orders");
}
