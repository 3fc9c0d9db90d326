//! `--verify`: are the outputs those that were recorded, or those of another recording? The first difference is told in words.

use std::collections::VecDeque;
use std::path::Path;

use ringlane_layout::orders::{OrderEvent, OrderRequest, OrderResult, Side};
use ringlane_layout::record::{Record, RecordBytes, RecordSchema};
use serde::Serialize;

use super::book::levels_text;
use super::columns::{difference, record_text};
use super::place::Place;
use super::progress::Progress;
use super::walk::{Halt, Mismatch, Walk};
use crate::board::text_of;
use crate::engine::Engine;
use crate::journal::{FrameKind, schema};

/// Fields that say who came, not what was decided: two recordings of one flow differ in them.
const IDENTITY: &[&str] = &["uid", "pid", "token_hash"];
/// Levels of the book that are shown around a difference.
const LEVELS: usize = 5;

/// What came of a comparison.
#[derive(Debug)]
pub struct Verdict {
    /// Records that were found equal before the end or the first difference.
    pub records: u64,
    /// The first difference.
    pub difference: Option<Difference>,
    /// What was compared.
    pub scope: &'static str,
}

/// The first difference.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Sequence numbers between which it lies, first and last; the same where the record is known.
    pub sequences: (u64, u64),
    /// What it is about: record, result, event, outputs, queue, length.
    pub what: &'static str,
    /// Field that differs.
    pub field: Option<String>,
    /// Its values: here, and recorded or in the other recording.
    pub values: Option<(String, String)>,
    /// All of it in words, with the book around it.
    pub words: String,
}

/// Walks to the end and compares.
pub fn verify(walk: &mut Walk, against: Option<&Path>, until: Option<Place>) -> Result<Verdict, String> {
    let path = walk.path().to_owned();
    let progress = Progress::new(walk);
    let verdict = match against {
        None => with_itself(walk, &progress),
        Some(other) => with_other(walk, Walk::open(other, until)?, &progress),
    };
    progress.end();
    verdict.map_err(|halt| halt.words(&path))
}

const BY_HASH: &str =
    "running hash of all outputs, checked at the beginning of every frame and at the end mark; without one, the last frame is not covered";

fn with_itself(walk: &mut Walk, progress: &Progress) -> Result<Verdict, Halt> {
    loop {
        let ended = match walk.step() {
            Ok(Some(_)) => Ok(false),
            Ok(None) => walk.check_end().map(|()| true),
            Err(halt) => Err(halt),
        };
        match ended {
            Ok(false) => progress.show(walk),
            Ok(true) => return Ok(Verdict { records: walk.counts().1, difference: None, scope: BY_HASH }),
            Err(Halt::Outputs(mismatch)) => {
                let difference = outputs_differ(walk.path(), &mismatch)?;
                return Ok(Verdict { records: mismatch.sequences.0.saturating_sub(1), difference: Some(difference), scope: BY_HASH });
            }
            Err(halt) => return Err(halt),
        }
    }
}

/// Words for a hash that is not the recorded one: the frame, its records and answers, and the book before it.
fn outputs_differ(path: &Path, mismatch: &Mismatch) -> Result<Difference, Halt> {
    let Mismatch { sequences: (first, last), lane, hashes: (computed, recorded) } = *mismatch;
    let count = last - first + 1;
    let mut words = format!(
        "{}: the outputs of sequences {first} to {last} (lane {lane}, one frame of {count} records) are not the recorded ones: their hash \
         is {computed:016x}, recorded is {recorded:016x}.\n",
        path.display()
    );
    words += if count == 1 {
        "The record and what came of it now:\n"
    } else {
        "The recording holds one hash a frame, so the record lies among these, which is what comes of them now:\n"
    };
    // Once more up to there, because the book before it is gone.
    let mut walk = Walk::open(path, Some(Place::Sequence(first - 1)))?;
    walk.run()?;
    let before = book_words(walk.engine(), symbols(path, first, last)?, "before it");
    let mut again = Walk::open(path, Some(Place::Sequence(last)))?;
    while let Some(step) = again.step()? {
        if step.header.first_sequence != first {
            continue;
        }
        let Some(schema) = schema(step.kind) else { continue };
        for (index, record) in step.records.iter().enumerate() {
            words += &format!("  {} {}\n", first + index as u64, record_text(schema, bytemuck::bytes_of(record)));
            if let Some(result) = step.results.get(index) {
                words += &format!("    -> {}\n", record_text(OrderResult::SCHEMA, bytemuck::bytes_of(result)));
            }
        }
    }
    let values = Some((format!("{computed:016x}"), format!("{recorded:016x}")));
    Ok(Difference { sequences: (first, last), what: "outputs", field: Some("output_hash".into()), values, words: words + &before })
}

/// Symbols that the order requests of these sequences name, at most three.
fn symbols(path: &Path, first: u64, last: u64) -> Result<Vec<u32>, Halt> {
    let mut walk = Walk::open(path, Some(Place::Sequence(last)))?;
    let mut found = Vec::new();
    while let Some(step) = walk.step()? {
        if step.header.first_sequence == first && step.kind == FrameKind::Orders {
            for record in step.records {
                let symbol = bytemuck::must_cast::<_, OrderRequest>(*record).symbol;
                if !found.contains(&symbol) && found.len() < 3 {
                    found.push(symbol);
                }
            }
        }
    }
    Ok(found)
}

fn book_words(engine: &Engine, symbols: Vec<u32>, when: &str) -> String {
    let instruments = engine.orders.instruments();
    let known = symbols.into_iter().filter_map(|symbol| instruments.get((symbol as usize).checked_sub(1)?));
    known.map(|instrument| format!("Book of {} {when}:\n{}", text_of(&instrument.name), levels_text(engine, instrument, LEVELS))).collect()
}

// ---- two recordings ----

/// One record with what came of it.
struct Item {
    sequence: u64,
    kind: FrameKind,
    lane: u32,
    record: RecordBytes,
    result: Option<OrderResult>,
    events: Vec<(u32, OrderEvent)>,
}

/// A recording as a stream of records, however its frames are cut.
struct Items {
    walk: Walk,
    queue: VecDeque<Item>,
}

impl Items {
    fn fill(queue: &mut VecDeque<Item>, walk: &mut Walk) -> Result<(), Halt> {
        while queue.is_empty() {
            let Some(step) = walk.step()? else { return Ok(()) };
            let mut events = step.events.iter().peekable();
            for (index, record) in step.records.iter().enumerate() {
                let sequence = step.header.first_sequence + index as u64;
                let mut own = Vec::new();
                // Whatever a record other than an order request causes is its own.
                while let Some(outgoing) = events.next_if(|outgoing| step.kind != FrameKind::Orders || outgoing.event.sequence <= sequence)
                {
                    own.push((outgoing.lane, outgoing.event));
                }
                let result = step.results.get(index).copied();
                queue.push_back(Item { sequence, kind: step.kind, lane: step.header.lane, record: *record, result, events: own });
            }
        }
        Ok(())
    }
}

const BY_RECORD: &str = "every record, result and event, and at the end every queue with its ids";

fn with_other(walk: &mut Walk, other: Walk, progress: &Progress) -> Result<Verdict, Halt> {
    let (path, other_path) = (walk.path().to_owned(), other.path().to_owned());
    let (mut left, mut right) = (VecDeque::new(), Items { walk: other, queue: VecDeque::new() });
    let mut records = 0;
    let found = loop {
        Items::fill(&mut left, walk)?;
        Items::fill(&mut right.queue, &mut right.walk).map_err(|halt| Halt::Words(halt.words(&other_path)))?;
        progress.show(walk);
        match (left.pop_front(), right.queue.pop_front()) {
            (None, None) => break queues(walk.engine(), right.walk.engine()),
            (Some(mine), Some(theirs)) => match compare(&mine, &theirs) {
                None => records += 1,
                found => break found,
            },
            (mine, theirs) => {
                let (longer, shorter) = if mine.is_some() { (&path, &other_path) } else { (&other_path, &path) };
                let sequence = mine.or(theirs).map_or(0, |item| item.sequence);
                let words = format!("{} ends before sequence {sequence}, and {} goes on\n", shorter.display(), longer.display());
                break Some(Difference { sequences: (sequence, sequence), what: "length", field: None, values: None, words });
            }
        }
    };
    let difference = match found {
        None => None,
        Some(difference) => Some(around(difference, &path, &other_path)?),
    };
    Ok(Verdict { records, difference, scope: BY_RECORD })
}

/// Adds the book before the difference, as it stood in both, for it was the same.
fn around(mut difference: Difference, path: &Path, other: &Path) -> Result<Difference, Halt> {
    let first = difference.sequences.0;
    difference.words = format!("{} (here) and {} (there) part: {}", path.display(), other.display(), difference.words);
    let mut symbols = Vec::new();
    for path in [path, other] {
        let mut walk = Walk::open(path, Some(Place::Sequence(first)))?;
        while let Some(step) = walk.step()? {
            let index = first.checked_sub(step.header.first_sequence).and_then(|index| usize::try_from(index).ok());
            if let Some(record) = index.and_then(|index| step.records.get(index)).filter(|_| step.kind == FrameKind::Orders) {
                symbols.push(bytemuck::must_cast::<_, OrderRequest>(*record).symbol);
            }
        }
    }
    symbols.dedup();
    let mut walk = Walk::open(path, Some(Place::Sequence(first.saturating_sub(1))))?;
    walk.run()?;
    difference.words += &book_words(walk.engine(), symbols, "before it");
    Ok(difference)
}

fn compare(mine: &Item, theirs: &Item) -> Option<Difference> {
    let sequence = mine.sequence;
    let say = |what: &'static str, field: &str, values: (String, String)| {
        let (here, there) = &values;
        let record = schema(mine.kind).map_or_else(String::new, |schema| record_text(schema, bytemuck::bytes_of(&mine.record)));
        let words = format!("sequence {sequence}, {what}, field {field}: {here} here, {there} there\n  the record here: {record}\n");
        Some(Difference { sequences: (sequence, sequence), what, field: Some(field.to_owned()), values: Some(values), words })
    };
    let of = |what, schema: &'static RecordSchema, left: &[u8], right: &[u8]| {
        let (field, left, right) = difference(schema, left, right, if what == "record" { IDENTITY } else { &[] })?;
        say(what, field, (left.to_string(), right.to_string()))
    };
    if mine.sequence != theirs.sequence {
        return say("record", "sequence", (mine.sequence.to_string(), theirs.sequence.to_string()));
    }
    if mine.kind != theirs.kind {
        return say("record", "kind", (format!("{:?}", mine.kind), format!("{:?}", theirs.kind)));
    }
    if mine.lane != theirs.lane {
        return say("record", "lane", (mine.lane.to_string(), theirs.lane.to_string()));
    }
    if let Some(schema) = schema(mine.kind)
        && let Some(found) = of("record", schema, bytemuck::bytes_of(&mine.record), bytemuck::bytes_of(&theirs.record))
    {
        return Some(found);
    }
    if let (Some(left), Some(right)) = (&mine.result, &theirs.result)
        && let Some(found) = of("result", OrderResult::SCHEMA, bytemuck::bytes_of(left), bytemuck::bytes_of(right))
    {
        return Some(found);
    }
    for ((to, left), (to_other, right)) in mine.events.iter().zip(&theirs.events) {
        if to != to_other {
            return say("event", "lane", (to.to_string(), to_other.to_string()));
        }
        if let Some(found) = of("event", OrderEvent::SCHEMA, bytemuck::bytes_of(left), bytemuck::bytes_of(right)) {
            return Some(found);
        }
    }
    let counts = (mine.events.len(), theirs.events.len());
    if counts.0 != counts.1 { say("event", "count", (counts.0.to_string(), counts.1.to_string())) } else { None }
}

/// The first place at which the queues of two engines differ.
fn queues(left: &Engine, right: &Engine) -> Option<Difference> {
    let sequence = left.next_sequence() - 1;
    let say = |field: String, values: (String, String)| {
        let words = format!("after sequence {sequence}, {field}: {} here, {} there\n", values.0, values.1);
        Some(Difference { sequences: (sequence, sequence), what: "queue", field: Some(field), values: Some(values), words })
    };
    for instrument in left.orders.instruments() {
        for side in [Side::Buy, Side::Sell] {
            let mut queues = (left.orders.fifo(instrument.symbol, side), right.orders.fifo(instrument.symbol, side));
            let mut place = 0;
            loop {
                let (mine, theirs) = (queues.0.next(), queues.1.next());
                if mine != theirs {
                    let text = |order: Option<ringlane_layout::orders::OpenOrder>| {
                        order.map_or("nothing".into(), |order| {
                            record_text(ringlane_layout::orders::OpenOrder::SCHEMA, bytemuck::bytes_of(&order))
                        })
                    };
                    return say(format!("{} {side:?} queue, place {place}", text_of(&instrument.name)), (text(mine), text(theirs)));
                }
                if mine.is_none() {
                    break;
                }
                place += 1;
            }
        }
    }
    let hashes = (left.orders.state_hash(), right.orders.state_hash());
    if hashes.0 == hashes.1 { None } else { say("state hash".into(), (format!("{:016x}", hashes.0), format!("{:016x}", hashes.1))) }
}
