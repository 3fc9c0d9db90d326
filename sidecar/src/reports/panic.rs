//! Panics: what the hook notes of one before anybody unwinds. Its message is told only where it stands in the source as it is;
//! a message that was put together may quote what a client sent, and stays in the log.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Arc;

use ringlane_layout::board::LANE;

use super::{Queue, Report};
use crate::board::{BoardReader, Row};

/// What is said instead of a message that was put together.
const KEPT_BACK: &str = "a panic whose message may quote what a client sent; it is in the log";

/// What is known of a panic.
#[derive(Debug)]
pub(super) struct Panicked {
    pub(super) message: &'static str,
    /// `file:line:column`.
    pub(super) place: String,
    pub(super) thread: String,
    /// Its names are looked up where it is shown.
    pub(super) backtrace: Backtrace,
    /// What the board says of the lane that the thread served.
    pub(super) lane: Option<Box<Row>>,
}

thread_local! {
    /// Row of the lane that this thread serves.
    static ROW: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// This thread serves the lane in this row of the board from now on.
#[inline]
pub fn serving(row: usize) {
    ROW.set(row);
}

/// Notes every panic from now on, and then does what was done before.
pub(super) fn hook(queue: Arc<Queue>) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        queue.push(Report::Panic(Box::new(Panicked {
            message: info.payload().downcast_ref::<&'static str>().copied().unwrap_or(KEPT_BACK),
            place: info.location().map_or_else(String::new, ToString::to_string),
            thread: std::thread::current().name().unwrap_or("").to_owned(),
            backtrace: Backtrace::force_capture(),
            lane: lane_at_hand(&queue),
        })));
        before(info);
    }));
}

fn lane_at_hand(queue: &Queue) -> Option<Box<Row>> {
    let row = ROW.try_with(Cell::get).ok().filter(|row| *row < LANE.rows)?;
    BoardReader::open(queue.address.get()?).ok()?.row(&LANE, row).map(Box::new)
}
