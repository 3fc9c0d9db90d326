//! What a start adds to what the journal says, as frames: limits, instruments and accounts that the configuration has otherwise,
//! and records that are void.

use ringlane_layout::limits::BATCH_SLOTS_MAX;
use ringlane_layout::orders::{AccountLimits, BookLimits, Instrument};
use ringlane_layout::record::{Record, RecordBytes};

use crate::board::text_of;
use crate::config::Config;
use crate::configured::Configured;
use crate::engine::Engine;
use crate::journal::{FrameKind, FrameMeta, Void, VoidRange};
use crate::sequencer::wall_clock_ns;

/// A frame that is still to be journaled.
pub(crate) type Added = (FrameMeta, Vec<RecordBytes>);

/// Applies what the configuration adds to the engine's limits, instruments and accounts, and gives it as frames. They are
/// journaled only when all of it was applied: a configuration that is refused leaves the journal as it was.
pub(crate) fn amend(engine: &mut Engine, config: &Config, journaled: &[AccountLimits]) -> Result<Vec<Added>, String> {
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

/// The frame that says that records are void.
pub(crate) fn void_records(engine: &mut Engine, void: VoidRange) -> Added {
    let added = frame(engine, FrameKind::Void, &[Void { first_sequence: void.first, last_sequence: void.last, ..Void::default() }]);
    engine.pass(1);
    added
}

/// What such a frame says.
pub(crate) fn frame_meta(engine: &Engine, kind: FrameKind, lane: u32, schema_hash: u64) -> FrameMeta {
    let (first_sequence, output_hash) = (engine.next_sequence(), engine.output_hash());
    FrameMeta { kind, lane, first_sequence, first_slot: 0, schema_hash, output_hash, time_ns: wall_clock_ns(), waiting_slots: 0 }
}
