//! The thread that makes events of reports and sends them. All waiting for Sentry happens here, and all counting: one event a
//! minute for one thing, and faults of lanes only above their rate.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use ringlane_layout::board::sentry;
use ringlane_layout::limits::{REPORT_SEND_NS_MAX, REPORT_THINGS_MAX, REPORT_WAKE_NS};
use serde_json::Value;
use ureq::Agent;

use super::envelope::{self, Origin};
use super::{Queue, Report, Words};
use crate::board::BoardRow;
use crate::config::{Dsn, SentryConfig};
use crate::https::sender_to;
use crate::sequencer::wall_clock_ns;

const MINUTE: Duration = Duration::from_secs(60);

/// A Sentry, and what it was told.
pub(super) struct Sender {
    agent: Agent,
    dsn: Dsn,
    origin: Origin,
    queue: Arc<Queue>,
    row: Arc<OnceLock<BoardRow>>,
    faults_per_minute: usize,
    /// When the last faults were.
    faults: VecDeque<Instant>,
    faults_told: Option<Instant>,
    /// When a thing was last told, and how often it came since.
    told: HashMap<String, (Instant, u64)>,
    sent: u64,
    dropped: u64,
    failed: u64,
    complained: Option<Instant>,
}

impl Sender {
    pub(super) fn new(dsn: Dsn, config: &SentryConfig, queue: Arc<Queue>, row: Arc<OnceLock<BoardRow>>) -> Self {
        Self {
            agent: sender_to(&dsn.url, Duration::from_nanos(REPORT_SEND_NS_MAX)),
            dsn,
            origin: Origin::new(&config.environment),
            queue,
            row,
            faults_per_minute: usize::try_from(config.faults_per_minute).unwrap_or(usize::MAX),
            faults: VecDeque::new(),
            faults_told: None,
            told: HashMap::new(),
            sent: 0,
            dropped: 0,
            failed: 0,
            complained: None,
        }
    }

    /// Until the sidecar ends, and what is left then.
    pub(super) fn run(&mut self) {
        loop {
            let is_last = self.queue.stopping.load(Ordering::Relaxed);
            while let Some(report) = self.queue.reports.pop() {
                if let Some(event) = self.event(report) {
                    self.send(event);
                }
                self.publish();
            }
            self.publish();
            if is_last {
                return;
            }
            park_timeout(Duration::from_nanos(REPORT_WAKE_NS));
        }
    }

    /// The event that a report is worth.
    fn event(&mut self, report: Report) -> Option<Value> {
        match report {
            Report::Panic(panicked) => Some(envelope::panicked(&panicked, wall_clock_ns())),
            Report::Error(words) => {
                let count = self.times(&words)?;
                Some(envelope::said(&words, "error", count))
            }
            Report::Fault(words) => {
                let count = self.faults_within_a_minute(Instant::now());
                if count <= self.faults_per_minute || self.faults_told.is_some_and(|told| told.elapsed() < MINUTE) {
                    return None;
                }
                self.faults_told = Some(Instant::now());
                Some(envelope::said(&words, "warning", count as u64))
            }
        }
    }

    /// How many faults there were in the last minute, this one included.
    fn faults_within_a_minute(&mut self, now: Instant) -> usize {
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|first| now - *first > MINUTE) || self.faults.len() > REPORT_THINGS_MAX {
            self.faults.pop_front();
        }
        self.faults.len()
    }

    /// How often a thing came since it was last told; none when that is less than a minute ago.
    fn times(&mut self, words: &Words) -> Option<u64> {
        let thing = format!("{} {}", words.target, words.message);
        let now = Instant::now();
        if self.told.len() >= REPORT_THINGS_MAX && !self.told.contains_key(&thing) {
            self.told.retain(|_, (told, _)| now - *told < MINUTE);
        }
        if let Some((told, count)) = self.told.get_mut(&thing) {
            *count += 1;
            if now - *told < MINUTE {
                return None;
            }
            *told = now;
            return Some(std::mem::take(count));
        }
        if self.told.len() == REPORT_THINGS_MAX {
            self.dropped += 1;
            return None;
        }
        self.told.insert(thing, (now, 0));
        Some(1)
    }

    fn send(&mut self, event: Value) {
        let body = self.origin.envelope(event);
        let auth = format!("Sentry sentry_version=7, sentry_client=ringlane/{}, sentry_key={}", env!("CARGO_PKG_VERSION"), self.dsn.key);
        let request = self.agent.post(&self.dsn.url).header("content-type", "application/x-sentry-envelope").header("x-sentry-auth", auth);
        match request.send(&body[..]) {
            Ok(_) => self.sent += 1,
            Err(error) => {
                self.dropped += 1;
                self.failed += 1;
                if self.complained.is_none_or(|at| at.elapsed() > MINUTE) {
                    self.complained = Some(Instant::now());
                    tracing::warn!(url = self.dsn.url, "Sentry takes nothing, so reports are dropped: {error}");
                }
            }
        }
    }

    fn publish(&self) {
        let dropped = self.dropped + self.queue.dropped.load(Ordering::Relaxed);
        if let Some(row) = self.row.get() {
            row.write(&[(sentry::EVENTS_SENT, self.sent), (sentry::EVENTS_DROPPED, dropped), (sentry::SENDINGS_FAILED, self.failed)]);
        }
    }
}
