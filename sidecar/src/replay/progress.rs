//! How far a walk has come, shown on a terminal and nowhere else.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::walk::Walk;

/// Frames between two looks at the bar.
const FRAMES_A_LOOK: u64 = 1024;

/// A bar of bytes with the rate of records and the time that is left.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for this walk; it stays hidden when standard error is no terminal.
    pub fn new(walk: &Walk) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden() };
        }
        let bar = ProgressBar::with_draw_target(Some(walk.bytes_max()), ProgressDrawTarget::stderr());
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A record with its share of a frame's header is about 64 bytes.
            let _ = write!(out, "{:.2} M records/s", state.per_sec() / 64e6);
        };
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {rate}  {eta} left  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Shows where the walk is.
    pub fn show(&self, walk: &Walk) {
        let (frames, _, bytes) = walk.counts();
        if frames.is_multiple_of(FRAMES_A_LOOK) && !self.bar.is_hidden() {
            self.bar.set_position(bytes);
            self.bar.set_message(format!("sequence {}", walk.engine().next_sequence() - 1));
        }
    }

    /// Prints a line without disturbing the bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
