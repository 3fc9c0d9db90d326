//! `ringlane top`: the board as a screen that moves. It reads shared memory and asks nothing of the sidecar. What is on the
//! screen stands in `screen`, what happened between two looks in `sample`.

mod sample;
mod screen;
mod words;

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::board::BoardReader;
use sample::{History, Order};

/// How often the screen changes, at least and at most.
const INTERVAL_MS_MIN: u64 = 100;
const INTERVAL_MS_MAX: u64 = 60_000;
/// Longest filter, characters.
const FILTER_CHARACTERS_MAX: usize = 64;

/// What the person in front has chosen.
struct Choice {
    order: Order,
    filter: String,
    /// Whether keys go into the filter.
    typing: bool,
    /// First lane that is shown.
    scroll: usize,
    paused: bool,
}

/// Shows the sidecar at `address` until `q`; a look every `interval_ms`. Says how it was at the end.
pub fn top(address: &str, interval_ms: u64) -> Result<(), String> {
    let board = BoardReader::open(address)?;
    let interval = Duration::from_millis(interval_ms.clamp(INTERVAL_MS_MIN, INTERVAL_MS_MAX));
    let mut terminal = ratatui::try_init().map_err(|error| format!("top needs a terminal: {error}; `ringlane status` does not"))?;
    let shown = run(&mut terminal, board, address, interval);
    ratatui::restore();
    shown.map_err(|error| format!("the terminal failed: {error}"))
}

fn run(terminal: &mut ratatui::DefaultTerminal, mut board: BoardReader, address: &str, interval: Duration) -> std::io::Result<()> {
    let mut choice = Choice { order: Order::Load, filter: String::new(), typing: false, scroll: 0, paused: false };
    let mut history = History::new(&board);
    let mut due = Instant::now() + interval;
    loop {
        terminal.draw(|frame| screen::draw(frame, &history, &choice))?;
        if event::poll(due.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press && !press(&mut choice, key) => return Ok(()),
                _ => {}
            }
        }
        if Instant::now() >= due {
            due = Instant::now() + interval;
            // A sidecar that was started anew has a new board by the same name.
            if !history.is_alive()
                && let Ok(newer) = BoardReader::open(address)
                && newer.owner_lives()
            {
                board = newer;
                history = History::new(&board);
            } else if !choice.paused {
                history.look(&board);
            }
        }
    }
}

/// One key. False: quit.
fn press(choice: &mut Choice, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code != KeyCode::Char('c');
    }
    if choice.typing {
        match key.code {
            KeyCode::Enter => choice.typing = false,
            KeyCode::Esc => (choice.typing, choice.filter) = (false, String::new()),
            KeyCode::Backspace => drop(choice.filter.pop()),
            KeyCode::Char(letter) if choice.filter.chars().count() < FILTER_CHARACTERS_MAX => choice.filter.push(letter),
            _ => {}
        }
        return true;
    }
    match key.code {
        KeyCode::Char('q') => return false,
        KeyCode::Char('s') => choice.order = choice.order.next(),
        KeyCode::Char('/') => choice.typing = true,
        KeyCode::Char('p') => choice.paused = !choice.paused,
        KeyCode::Esc => choice.filter.clear(),
        KeyCode::Down | KeyCode::Char('j') => choice.scroll = choice.scroll.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => choice.scroll = choice.scroll.saturating_sub(1),
        KeyCode::Home => choice.scroll = 0,
        _ => {}
    }
    true
}
