//! A recording as tables of rows: what was asked, answered, told and traded, and every other kind of record by its name.

use std::collections::BTreeMap;

use ringlane_layout::orders::{EventKind, OrderEvent, OrderRequest, OrderResult, Side};
use ringlane_layout::record;
use ringlane_layout::record::{Record, RecordSchema};

use super::columns::{Column, columns};
use super::walk::Step;
use crate::journal::{FrameHeader, FrameKind, LaneOpen, schema};
use crate::kernels::orders::Outgoing;

record! {
    /// What stands before every record of a table.
    pub struct RowHead: 32 {
        /// Sequence number of the record.
        sequence: u64,
        /// Wall clock of its frame, nanoseconds since 1970.
        time_ns: u64,
        /// Slot of its lane; 0 for records without one.
        slot: u64,
        /// Lane that it came from, or that an event goes to.
        lane: u32,
        /// Zero.
        reserved: [u8; 4],
    }
}

record! {
    /// A trade: one taker and one maker.
    pub struct Trade: 128 {
        /// Sequence number of the taker's request; with `k`, the trade's id.
        sequence: u64,
        /// Wall clock of the request's frame, nanoseconds since 1970.
        time_ns: u64,
        /// Index of the event among those of the request.
        k: u32,
        /// Symbol number.
        symbol: u32,
        /// Price, price units.
        price: i64,
        /// Quantity.
        quantity: u32,
        /// Quantity of the maker's order that still rests.
        maker_remaining_quantity: u32,
        /// Order id of the taker.
        taker_order_id: u64,
        /// Client order id of the taker.
        taker_client_order_id: u64,
        /// Account of the taker.
        taker_account: u32,
        /// Lane of the taker.
        taker_lane: u32,
        /// Order id of the maker.
        maker_order_id: u64,
        /// Client order id of the maker.
        maker_client_order_id: u64,
        /// Account of the maker.
        maker_account: u32,
        /// Lane of the maker; 0 for nobody.
        maker_lane: u32,
        /// Side of the taker.
        taker_side: u8 as Side,
        /// Zero.
        reserved0: [u8; 7],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// Where a frame stands.
    pub struct FramePlace: 16 {
        /// Number of its segment.
        segment: u64,
        /// Offset in the segment's file, bytes.
        offset: u64,
    }
}

/// One table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name, and that of its file.
    pub name: String,
    /// What a row is made of.
    pub parts: Vec<&'static RecordSchema>,
    /// The columns of a row.
    pub columns: Vec<Column>,
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Frames,
    Records(FrameKind),
    Results,
    Events,
    Trades,
}

/// Tables that are exported unless others are named.
pub const USUAL: &[&str] = &["orders", "results", "events", "trades", "instruments"];

/// Every table that a recording of this build can give.
#[must_use]
pub fn tables() -> Vec<Table> {
    let table = |name: &str, source, parts: Vec<&'static RecordSchema>| {
        let columns = columns(&parts);
        Table { name: name.to_owned(), parts, columns, source }
    };
    let head = RowHead::SCHEMA;
    let kinds = FrameKind::SCHEMA.members.iter().filter_map(|member| {
        let kind = FrameKind::try_from(member.value as u8).ok()?;
        Some(table(&member.name.to_lowercase(), Source::Records(kind), vec![head, schema(kind)?]))
    });
    let computed = [
        table("results", Source::Results, vec![head, OrderResult::SCHEMA]),
        table("events", Source::Events, vec![head, OrderEvent::SCHEMA]),
        table("trades", Source::Trades, vec![Trade::SCHEMA]),
        table("frames", Source::Frames, vec![FramePlace::SCHEMA, FrameHeader::SCHEMA]),
    ];
    kinds.chain(computed).collect()
}

impl Table {
    /// Whether its rows are frames as they stand in the files, which no engine need see.
    #[must_use]
    pub fn is_frames(&self) -> bool {
        self.source == Source::Frames
    }

    /// The record that a row is about.
    #[must_use]
    pub fn subject(&self) -> &'static RecordSchema {
        self.parts[self.parts.len() - 1]
    }

    /// Gives the rows of one frame: place (sequence, time, lane) and parts.
    pub fn rows<E>(
        &self,
        step: &Step,
        numbers: &mut EventNumbers,
        mut row: impl FnMut((u64, u64, u32), &[&[u8]]) -> Result<(), E>,
    ) -> Result<(), E> {
        let FrameHeader { first_sequence, first_slot, time_ns, lane, .. } = step.header;
        let head = |index: u64| RowHead { sequence: first_sequence + index, time_ns, slot: first_slot + index, lane, reserved: [0; 4] };
        match self.source {
            Source::Records(kind) if kind == step.kind => (0..).zip(step.records).try_for_each(|(index, record)| {
                let head = head(index);
                row((head.sequence, time_ns, lane), &[bytemuck::bytes_of(&head), bytemuck::bytes_of(record)])
            }),
            Source::Results => (0..).zip(step.results).try_for_each(|(index, result)| {
                let head = head(index);
                row((head.sequence, time_ns, lane), &[bytemuck::bytes_of(&head), bytemuck::bytes_of(result)])
            }),
            Source::Events => step.events.iter().filter(|outgoing| outgoing.lane != 0).try_for_each(|outgoing| {
                let (to, mut event) = (outgoing.lane, outgoing.event);
                event.number = numbers.next(to);
                let head = RowHead { sequence: event.sequence, time_ns, slot: 0, lane: to, reserved: [0; 4] };
                row((event.sequence, time_ns, to), &[bytemuck::bytes_of(&head), bytemuck::bytes_of(&event)])
            }),
            Source::Trades => trades(step).try_for_each(|trade| row((trade.sequence, time_ns, lane), &[bytemuck::bytes_of(&trade)])),
            Source::Records(_) | Source::Frames => Ok(()),
        }
    }
}

/// Numbers the events of each lane, as the sidecar did.
#[derive(Debug, Clone, Default)]
pub struct EventNumbers {
    last: BTreeMap<u32, u64>,
    /// Whether a lane that is not known had no event yet: the recording is seen from its beginning.
    is_whole: bool,
}

impl EventNumbers {
    /// Goes on behind the last numbers of these lanes.
    #[must_use]
    pub fn behind(last: BTreeMap<u32, u64>, is_whole: bool) -> Self {
        Self { last, is_whole }
    }

    /// Notes lanes that a frame opens.
    pub fn see(&mut self, step: &Step) {
        if step.kind == FrameKind::LaneOpen {
            self.last.extend(step.records.iter().map(|record| (bytemuck::must_cast::<_, LaneOpen>(*record).lane, 0)));
        }
    }

    /// Number of the lane's next event; 0 when nobody knows how many came before.
    fn next(&mut self, lane: u32) -> u64 {
        if self.is_whole {
            self.last.entry(lane).or_default();
        }
        self.last.get_mut(&lane).map_or(0, |last| {
            *last += 1;
            *last
        })
    }
}

/// The trades of one frame, in the order in which they happened.
pub fn trades<'a>(step: &'a Step) -> impl Iterator<Item = Trade> + 'a {
    let fills = step.events.iter().enumerate().filter(|(_, outgoing)| outgoing.event.kind == EventKind::Fill as u8);
    fills.map(|(place, outgoing)| {
        let maker = &outgoing.event;
        let taker_side = if maker.side == Side::Buy as u8 { Side::Sell } else { Side::Buy };
        let trade = Trade {
            sequence: maker.sequence,
            time_ns: step.header.time_ns,
            k: maker.k,
            symbol: maker.symbol,
            price: maker.price,
            quantity: maker.quantity,
            maker_remaining_quantity: maker.remaining_quantity,
            maker_order_id: maker.order_id,
            maker_client_order_id: maker.client_order_id,
            maker_account: maker.account,
            maker_lane: outgoing.lane,
            taker_side: taker_side as u8,
            ..Trade::default()
        };
        with_taker(trade, step, step.events.get(place + 1))
    })
}

/// Adds who the taker was: a triggered stop, whose own event follows the maker's, or else the request.
fn with_taker(trade: Trade, step: &Step, next: Option<&Outgoing>) -> Trade {
    let is_stop = |next: &&Outgoing| {
        next.event.kind == EventKind::TakerFill as u8 && (next.event.sequence, next.event.k) == (trade.sequence, trade.k + 1)
    };
    if let Some(Outgoing { lane, event }) = next.filter(is_stop) {
        return Trade {
            taker_order_id: event.order_id,
            taker_client_order_id: event.client_order_id,
            taker_account: event.account,
            taker_lane: *lane,
            ..trade
        };
    }
    let index = trade.sequence.checked_sub(step.header.first_sequence).map(|index| index as usize);
    let asked = index.and_then(|index| Some((step.records.get(index)?, step.results.get(index)?)));
    let Some((request, result)) = asked else { return trade };
    let taker: OrderRequest = bytemuck::must_cast(*request);
    Trade {
        taker_order_id: result.order_id,
        taker_client_order_id: taker.client_order_id,
        taker_account: taker.account,
        taker_lane: step.header.lane,
        ..trade
    }
}

/// A row of the frames table.
#[must_use]
pub fn frame_row(segment: u64, offset: u64) -> FramePlace {
    FramePlace { segment, offset }
}
