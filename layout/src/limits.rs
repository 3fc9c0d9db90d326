//! Every limit of the exchange, with its unit. A loop, queue or message without a maximum here has no place in Ringlane.

/// Version of the regions' layout and of the control protocol; a peer of another version is refused in words.
pub const LAYOUT_VERSION: u32 = 2;

/// Size of an order lane's records and of every event, bytes; the slots of other lanes are multiples of it.
pub const RECORD_BYTES: usize = 64;
/// Largest slot of a lane, bytes.
pub const SLOT_BYTES_MAX: u64 = 64 * 1024;
/// Largest payload arena of a lane, bytes.
pub const ARENA_BYTES_MAX: u64 = 1 << 32;
/// Largest region of a lane, bytes.
pub const REGION_BYTES_MAX: u64 = 1 << 34;
/// Page size that region offsets are multiples of, bytes.
pub const PAGE_BYTES: usize = 4096;
/// Distance between two hot words, bytes: two cache lines, because adjacent lines are fetched in pairs.
pub const HOT_WORD_STRIDE_BYTES: usize = 128;

/// Smallest lane, slots: one page of records.
pub const DEPTH_SLOTS_MIN: u64 = 64;
/// Largest lane, slots.
pub const DEPTH_SLOTS_MAX: u64 = 1 << 20;
/// Smallest event ring, events.
pub const EVENTS_MIN: u64 = 64;
/// Largest event ring, events.
pub const EVENTS_MAX: u64 = 1 << 20;

/// Longest control message, bytes. A longer one ends the connection.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most file descriptors in one control reply.
pub const CONTROL_FDS_MAX: usize = 4;
/// Longest explanation of a refusal, bytes: it may quote the client, whose message may be 64 KiB.
pub const REFUSAL_BYTES_MAX: usize = 1000;
/// Longest name that a client may give itself, bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 64;
/// Most open client connections.
pub const CLIENTS_MAX: usize = 1024;
/// User id that every user of another user namespace arrives as, and of which nothing can be proven.
pub const OVERFLOW_UID: u32 = 65_534;
/// Most supplementary groups of a peer that are looked at; Linux allows no more (NGROUPS_MAX).
pub const PEER_GROUPS_MAX: usize = 65_536;
/// Most open lanes in one sidecar.
pub const LANES_MAX: usize = 1024;
/// Most connections that the control thread accepts before it looks at its other clients, and the pause after so many,
/// nanoseconds: four thousand a second. Whoever floods it waits in the queue of the socket.
pub const ACCEPTS_A_TURN: usize = 16;
/// See `ACCEPTS_A_TURN`.
pub const ACCEPT_PAUSE_NS: u64 = 4_000_000;
/// Most kernels in one sidecar.
pub const KERNELS_MAX: usize = 16;
/// Most thread pools in one sidecar.
pub const POOLS_MAX: usize = 8;
/// Most stages of a request whose times are kept.
pub const STAGES_MAX: usize = 16;
/// Most closed lanes and replies of which clients still have the memory; more, and nothing new is handed out.
pub const KEPT_MAX: usize = 16_384;
/// Most replies of rows of which one user still has the descriptors.
pub const KEPT_REPLIES_MAX: usize = 2048;
/// Closed lanes and replies from which on they are looked through whenever one more comes.
pub const KEPT_SWEPT_FROM: usize = 64;
/// Longest request of a metrics scraper, bytes.
pub const SCRAPE_REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Longest time a connection may take to say hello, nanoseconds.
pub const HELLO_TIMEOUT_NS: u64 = 5_000_000_000;
/// Longest that a command of this program waits for a sidecar's answer, seconds.
pub const CALL_WAIT_S_MAX: i64 = 30;
/// Most open orders, positions or levels in one query reply.
pub const QUERY_ROWS_MAX: u64 = 1_000_000;
/// Time that the sequencer keeps for orders after a user's question, in times of what the question took.
pub const QUESTION_REST: u32 = 9;
/// Time that the control thread keeps for others after a user's question, in times of the question's price.
pub const QUESTION_ANSWER_REST: u32 = 3;
/// What the control thread spends on one question beside the sequencer: it reads it, makes a sealed memfd, sends it, nanoseconds.
/// A price, not a measurement: a busy machine makes nobody's questions dearer.
pub const QUESTION_NS: u64 = 40_000;
/// The same for each byte of the answer, picoseconds.
pub const QUESTION_PS_A_BYTE: u64 = 500;
/// How far a user's questions may run ahead of its share before they wait, nanoseconds.
pub const QUESTION_CREDIT_NS: u64 = 50_000_000;
/// Longest that the control thread waits for a lane to end before it says so, nanoseconds.
pub const CLOSE_WAIT_NS_MAX: u64 = 20_000_000;

/// Largest order quantity, lots of 1: 2^27 - 1.
pub const ORDER_QUANTITY_MAX: i64 = (1 << 27) - 1;
/// Largest price, in price units: 2^36 - 1. With four decimals that is 6,871,947.6735.
pub const ORDER_PRICE_MAX: i64 = (1 << 36) - 1;
/// Most symbols.
pub const SYMBOLS_MAX: u32 = 1 << 16;
/// Highest account number.
pub const ACCOUNT_MAX: u32 = (1 << 24) - 1;
/// Most resting orders in all books together.
pub const RESTING_ORDERS_MAX: usize = 1 << 26;
/// Most parts in which an iceberg may show its quantity: one order may trade with all of them.
pub const ICEBERG_PARTS_MAX: u32 = 256;
/// Most stops that wait in one symbol: one trade may trigger them all.
pub const STOPS_MAX: usize = 1 << 14;
/// Most ranges of accounts with limits of their own in a symbol, all symbols together.
pub const SYMBOL_LIMITS_MAX: usize = 1 << 16;
/// Most decimals of a price.
pub const PRICE_DECIMALS_MAX: u32 = 9;

/// Smallest ring of market data, records.
pub const MARKET_RECORDS_MIN: u64 = 1 << 10;
/// Largest ring of market data, records.
pub const MARKET_RECORDS_MAX: u64 = 1 << 24;
/// Records of market data that are put into the ring at once, at most.
pub const MARKET_PIECE_RECORDS: usize = 512;
/// Resting orders and price levels that the sequencer looks at between two turns for a snapshot of market data, about; one
/// book is never divided.
pub const MARKET_SNAPSHOT_WORK: u64 = 1 << 14;

/// Most components of a vector.
pub const VECTOR_COMPONENTS_MAX: usize = 1 << 16;
/// Most rows that a search gives for one query.
pub const TOP_K_MAX: usize = 1000;
/// Most rows of one corpus.
pub const CORPUS_ROWS_MAX: usize = 1 << 31;
/// Longest header of a .npy file, bytes.
pub const NPY_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Most journal segments that are kept ready.
pub const SPARE_SEGMENTS_MAX: usize = 64;
/// Most orders in one batch of the sequencer, slots. One batch is one journal frame.
pub const BATCH_SLOTS_MAX: usize = 256;
/// Most orders in a batch that is to be matched by symbol on several threads, slots: what a frame can hold.
pub const PARALLEL_BATCH_SLOTS_MAX: usize = 4096;
/// Most threads that match one batch: as many as there are parts of the books.
pub const ORDER_THREADS_MAX: usize = 8;
/// Work that a lane may take in one turn while others wait, orders or their equal in work: about 10 microseconds.
pub const QUANTUM_WORK: i64 = 64;
/// Work that a lane may take in one turn while nobody else is there, orders or their equal.
pub const ALONE_WORK: i64 = 4 * BATCH_SLOTS_MAX as i64;
/// The same where several threads share large batches, orders or their equal.
pub const PARALLEL_WORK: i64 = 2 * PARALLEL_BATCH_SLOTS_MAX as i64;
/// Orders over which the sequencer forgets that a lane's requests were dear.
pub const COST_MEMORY_ORDERS: usize = 4096;
/// Most requests of the control thread that wait for the sequencer; it waits for room.
pub const COMMANDS_MAX: usize = 4096;
/// Work after which the sequencer looks at doorbells and the clock, orders or their equal.
pub const LOOK_AROUND_WORK: u64 = 256;
/// What one turn of a lane costs beside its orders, orders.
pub const TURN_WORK: u64 = 2;
/// Work after which a batch has its stages timed, orders or their equal: about five looks at the clock in 30 microseconds.
pub const TIMED_WORK: u64 = 256;
/// Shortest time between two looks at all polled lanes, nanoseconds: what the board says of a lane is at most so old.
pub const SURVEY_NS: u64 = 100_000;
/// Longest time between two looks at the lanes that are not polled, nanoseconds.
pub const SURVEY_PARKED_NS: u64 = 1_000_000_000;
/// Age of the sequencer's last sign of life at which a sidecar counts as stalled, nanoseconds.
pub const STALLED_AFTER_NS: u64 = 10_000_000_000;
/// Most doorbells that one look takes in.
pub const DOORBELLS_A_LOOK: usize = 64;
/// Longest sleep of any waiter before it looks again, nanoseconds.
pub const SLEEP_NS_MAX: u64 = 1_000_000_000;
/// Doorbells of one lane without progress after which the lane is faulted.
pub const EMPTY_DOORBELLS_MAX: u32 = 10_000;

/// Batches that wait for the thread that sends their spans; more are dropped and counted.
pub const TRACE_QUEUE_RECORDS: usize = 4096;
/// Batches whose spans go into one request to a collector.
pub const TRACE_RECORDS_A_REQUEST: usize = 512;
/// Spans of workers that are told apart in one batch; more are dropped and counted.
pub const TRACED_SPANS_A_BATCH: usize = 16;
/// Time between two requests to a collector that keeps up, nanoseconds.
pub const TRACE_SEND_NS: u64 = 200_000_000;
/// Longest that one request to a collector may take, nanoseconds.
pub const TRACE_SEND_NS_MAX: u64 = 2_000_000_000;

/// Reports that wait for the thread that sends them to Sentry; more are dropped and counted.
pub const REPORT_QUEUE_REPORTS: usize = 256;
/// Different things that are told apart within a minute, and faults of lanes that are counted.
pub const REPORT_THINGS_MAX: usize = 4096;
/// Time between two looks for reports, nanoseconds.
pub const REPORT_WAKE_NS: u64 = 200_000_000;
/// Longest that one request to Sentry may take, nanoseconds.
pub const REPORT_SEND_NS_MAX: u64 = 2_000_000_000;
/// Longest that the sidecar's end waits for the last reports, nanoseconds.
pub const REPORT_LAST_NS: u64 = 1_000_000_000;

/// Most corpora of a sidecar.
pub const CORPORA_MAX: usize = 128;
/// Longest name of a corpus, bytes.
pub const CORPUS_NAME_BYTES_MAX: usize = 64;
/// Most open lanes of kernels that run as jobs, beside those of orders.
pub const JOB_LANES_MAX: usize = 256;
/// Work after which a job gives its thread back to the others that wait, nanoseconds.
pub const JOB_RUN_NS: u64 = 150_000;
/// Bytes of requests or of results that one run of slots copies: less than a core's own cache.
pub const JOB_RUN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of requests or of results of a group of slots that several threads work on together, which is copied as one.
pub const JOB_GROUP_BYTES_MAX: usize = 1 << 20;
/// Bytes of requests or of results of a run that are copied, computed and copied on together, or one slot: so few that both
/// stay in a core's own cache.
pub const JOB_PIECE_BYTES: usize = 64 * 1024;
/// Slots of one run of payloads.
pub const PAYLOADS_A_RUN: usize = 64;
/// Bytes of an arena that are copied and worked on at a time.
pub const TILE_BYTES: usize = 64 * 1024;
/// How long a recorded lane waits for room in the journal before it ends, nanoseconds.
pub const JOB_KEEP_NS_MAX: u64 = 500_000_000;
/// How long a thread of the pool looks for more work of a lane before the lane must ring, nanoseconds.
pub const JOB_LINGER_NS: u64 = 30_000;
/// Most bytes of frames that gather while those before them are made durable.
pub const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Pause before frames that the disk refused are written again: the first, and the longest, nanoseconds.
pub const COMMIT_RETRY_NS_MIN: u64 = 20_000_000;
/// See `COMMIT_RETRY_NS_MIN`.
pub const COMMIT_RETRY_NS_MAX: u64 = 60_000_000_000;
/// Longest that a question, or a clean stop, waits for the disk, nanoseconds.
pub const SETTLE_NS_MAX: u64 = 10_000_000_000;
/// Longest that the sidecar's end waits for jobs, nanoseconds.
pub const JOBS_STOP_NS_MAX: u64 = 10_000_000_000;

const _: () = {
    assert!(MARKET_RECORDS_MIN.is_power_of_two() && MARKET_RECORDS_MIN >= MARKET_PIECE_RECORDS as u64);
    assert!(DEPTH_SLOTS_MIN as usize * RECORD_BYTES >= PAGE_BYTES);
    assert!(DEPTH_SLOTS_MIN.is_power_of_two() && DEPTH_SLOTS_MAX.is_power_of_two());
    assert!(EVENTS_MIN as usize * RECORD_BYTES >= PAGE_BYTES && EVENTS_MIN.is_power_of_two());
    // The notional of one order, and so of all its fills, always fits an i64.
    assert!(ORDER_PRICE_MAX.checked_mul(ORDER_QUANTITY_MAX).is_some());
    assert!(HOT_WORD_STRIDE_BYTES.is_multiple_of(64));
    assert!(PAGE_BYTES.is_multiple_of(RECORD_BYTES));
    // No sum of sizes within these limits overflows.
    assert!(DEPTH_SLOTS_MAX.checked_mul(SLOT_BYTES_MAX).is_some());
};
