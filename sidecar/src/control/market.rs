//! The question for market data: who may read gets the broadcast ring, for reading only, and a snapshot to begin with.

use std::time::Duration;

use crossbeam::channel::bounded;
use ringlane_layout::limits::{MARKET_SNAPSHOT_WORK, QUERY_ROWS_MAX, SYMBOLS_MAX};
use ringlane_layout::market::{MARKET_RING_OFFSET, MarketKind, MarketRecord, header, region_bytes};
use ringlane_layout::orders::Side;
use ringlane_layout::record::Record;
use serde_json::json;

use super::access::Grant;
use super::messages::{Number, Refusal, record_schema};
use super::session::{Host, Reply};
use crate::engine::Engine;
use crate::lanes::{Memory, Region, sealed_rows};
use crate::market::Market;
use crate::sequencer::{Command, wall_clock_ns};
use crate::world;

/// What control knows of the broadcast; nothing until somebody asked.
#[derive(Default)]
pub struct Broadcast {
    ring: Option<Handle>,
}

/// The ring as it is handed out.
#[derive(Clone)]
struct Handle {
    memory: Memory,
    epoch: u64,
    capacity: u64,
}

/// Rows of a snapshot, and how many of its symbols they cover; or the number of a symbol that there is not.
type Piece = Result<(Vec<MarketRecord>, usize), u32>;

/// Answers with the ring and the books of these symbols, of all when none are named, and has them watched from now on.
pub fn ask(symbols: Option<Vec<Number>>, grant: &Grant, host: &mut Host, uid: u32) -> Result<Reply, Refusal> {
    grant.market_data()?;
    let named = symbols.map(|symbols| symbols.into_iter().map(|symbol| symbol.within("symbols", 1, SYMBOLS_MAX)).collect());
    let named: Option<Vec<u32>> = named.transpose()?;
    let Handle { memory, epoch, capacity } = host.broadcast.ring(host.config.market_data.records, &host.commands)?;
    let handed_out =
        |memory: &Memory| memory.hand_out(false).map_err(|error| Refusal::new("MEMORY", format!("no descriptor can be had: {error}")));
    let ring = handed_out(&memory)?;
    let mut spent = Duration::ZERO;
    let rows = snapshot(named, host, &mut spent);
    let bytes = rows.as_ref().map_or(0, |rows| size_of_val(rows.as_slice()));
    host.questions.charge_answer(uid, bytes, world::now());
    // A snapshot that was too large was work all the same.
    host.questions.charge(uid, spent, world::now());
    let mut rows = rows?;
    sort_levels(&mut rows);
    let bytes: &[u8] = bytemuck::cast_slice(&rows);
    let reply = sealed_rows(bytes).map_err(|words| Refusal::new("MEMORY", words))?;
    let snapshot = handed_out(&reply)?;
    host.ledger.charge_reply(uid, bytes.len() as u64, reply)?;
    let body = json!({
        "ok": true, "rows": rows.len(), "row": "MarketRecord", "record": record_schema(MarketRecord::SCHEMA), "epoch": epoch,
        "capacity": capacity, "ring_bytes": region_bytes(capacity).unwrap_or(0), "ring_offset": MARKET_RING_OFFSET,
    });
    Ok(Reply::with(body, [ring, snapshot]))
}

impl Broadcast {
    /// The ring; the sequencer begins to write it when it is asked for the first time.
    fn ring(&mut self, records: u64, commands: &crate::sequencer::Commands) -> Result<Handle, Refusal> {
        if let Some(ring) = &self.ring {
            return Ok(ring.clone());
        }
        let refuse = |words| Refusal::new("MEMORY", words);
        let epoch = wall_clock_ns();
        let region = Region::for_results(region_bytes(records).map_err(refuse)?, &header(records, epoch)).map_err(refuse)?;
        let memory = region.memory().clone();
        if !commands.send(Command::Market(Box::new(move |_, market| market.begin(region)))) {
            return Err(stopping());
        }
        Ok(self.ring.insert(Handle { memory, epoch, capacity: records }).clone())
    }
}

fn stopping() -> Refusal {
    Refusal::new("STOPPING", "the sidecar is stopping")
}

/// Asks the sequencer for the books, some of them a turn. Each is true at the `number` of its own rows. Adds the sequencer's time
/// to `spent`.
fn snapshot(named: Option<Vec<u32>>, host: &Host, spent: &mut Duration) -> Result<Vec<MarketRecord>, Refusal> {
    let (mut rows, mut next) = (Vec::new(), 0);
    let symbols = std::sync::Arc::new(named);
    loop {
        let (answer, answered) = bounded(1);
        let symbols = std::sync::Arc::clone(&symbols);
        let asking = Box::new(move |engine: &mut Engine, market: &mut Market| {
            let began = world::now();
            let piece = piece(symbols.as_deref(), next, engine, market);
            let _ = answer.send((piece, began.elapsed()));
        });
        if !host.commands.send(Command::Market(asking)) {
            return Err(stopping());
        }
        let (piece, took) = world::wait_for(&answered, None).map_err(|_| stopping())?;
        *spent += took;
        let (more, covered) = piece.map_err(|symbol| Refusal::new("BAD_VALUE", format!("there is no symbol {symbol}")))?;
        rows.extend(more);
        next += covered;
        if rows.len() as u64 > QUERY_ROWS_MAX {
            let words = format!("the snapshot has more than {QUERY_ROWS_MAX} rows, the most of an answer; ask for fewer symbols");
            return Err(Refusal::new("QUOTA", words));
        }
        if covered == 0 {
            return Ok(rows);
        }
    }
}

/// The books of some symbols from the `first` of the list on, between two turns.
fn piece(named: Option<&[u32]>, first: usize, engine: &mut Engine, market: &Market) -> Piece {
    let (mut rows, mut covered, mut work) = (Vec::new(), 0, 0);
    let count = engine.orders.instrument_count();
    if named.is_none() {
        engine.orders.watch_new_symbols();
    }
    while work < MARKET_SNAPSHOT_WORK {
        let index = first + covered;
        let symbol = match named {
            Some(named) => named.get(index).copied(),
            None => (index < count as usize).then_some(index as u32 + 1),
        };
        let Some(symbol) = symbol else { break };
        if symbol > count {
            return Err(symbol);
        }
        let before = rows.len();
        work += engine.orders.watch(symbol) + 1;
        engine.orders.market_snapshot(symbol, engine.next_sequence() - 1, market.number(), &mut rows);
        work += (rows.len() - before) as u64;
        covered += 1;
    }
    Ok((rows, covered))
}

/// Puts the levels of each book in order: bids best first, then asks best first. The sequencer has no time for it.
fn sort_levels(rows: &mut [MarketRecord]) {
    for book in rows.chunk_by_mut(|_, next| next.kind != MarketKind::Clear as u8) {
        let levels = book.len() - 1;
        book[1..levels].sort_unstable_by_key(|row| (row.side, if row.side == Side::Buy as u8 { -row.price } else { row.price }));
    }
}
