//! The candidates of one query: rows whose score may still be among the best k, each with bounds of its score. Memory is
//! bounded by k: a full list first drops who cannot win, and if too many are left, computes their scores.

use ringlane_layout::limits::TOP_K_MAX;
use std::cmp::Ordering;

use super::corpus::Corpus;
use super::isa::PANEL_ROWS;

/// A row and what is known of its score; both bounds are the score itself once that was computed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub low: f32,
    pub high: f32,
    pub row: u32,
    is_exact: bool,
}

/// A row that was found, with its f32 score.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Found {
    /// Its score; more is better.
    pub(super) score: f32,
    /// Its id.
    pub id: u64,
    pub(super) row: u32,
}

impl Found {
    /// The best first; of equals the lowest id, and of equal ids the first row.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        // Scores are never NaN, and -0.0 equals 0.0.
        other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal).then(self.id.cmp(&other.id)).then(self.row.cmp(&other.row))
    }
}

/// The candidates of one query, with memory for any k up to the one it was made for.
pub struct Shortlist {
    k: usize,
    k_max: usize,
    /// What the k-th best is known to reach: a row that cannot is no candidate.
    pub(super) bar: f32,
    candidates: Vec<Candidate>,
    found: Vec<Found>,
}

/// Candidates after which a list is thinned out.
const fn crowd(k: usize) -> usize {
    4 * k + 256
}

impl Default for Shortlist {
    /// A list of nothing, without memory: what is left where a list was taken.
    fn default() -> Self {
        Self { k: 1, k_max: 1, bar: f32::NEG_INFINITY, candidates: Vec::new(), found: Vec::new() }
    }
}

impl Shortlist {
    /// Candidates that a list for `k` has memory for.
    pub(super) const fn candidates_max(k: usize) -> usize {
        crowd(k) + PANEL_ROWS
    }

    /// Memory for lists of up to `k_max`, which it clamps to the limit; none is had later.
    pub fn new(k_max: usize) -> Self {
        let k_max = k_max.clamp(1, TOP_K_MAX);
        let candidates = Vec::with_capacity(crowd(k_max) + PANEL_ROWS);
        Self { k: k_max, k_max, bar: f32::NEG_INFINITY, candidates, found: Vec::with_capacity(crowd(k_max) + PANEL_ROWS) }
    }

    /// Empties it for the next query and its `k`; `None` when k is 0 or more than it has memory for.
    pub fn begin(&mut self, k: usize) -> Option<()> {
        if k == 0 || k > self.k_max {
            return None;
        }
        self.k = k;
        self.bar = f32::NEG_INFINITY;
        self.candidates.clear();
        self.found.clear();
        Some(())
    }

    /// What was found, best first, once the list is settled.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    #[inline(always)]
    pub(super) fn add(&mut self, row: u32, low: f32, high: f32) {
        self.candidates.push(Candidate { low, high, row, is_exact: false });
    }

    #[inline(always)]
    pub(super) fn add_exact(&mut self, row: u32, score: f32) {
        self.candidates.push(Candidate { low: score, high: score, row, is_exact: true });
    }

    /// Whether the next panel might not fit, or thinning pays.
    #[inline(always)]
    pub(super) fn is_crowded(&self) -> bool {
        self.candidates.len() > crowd(self.k)
    }

    /// Drops who cannot be among the best k. Afterwards a panel fits.
    #[inline(always)]
    pub(super) fn thin_out(&mut self, corpus: &Corpus, score: impl Fn(usize) -> f32) {
        self.drop_losers();
        if self.candidates.len() > crowd(self.k) / 2 {
            self.resolve(corpus, score);
            let keep = |found: &Found| Candidate { low: found.score, high: found.score, row: found.row, is_exact: true };
            self.candidates.clear();
            self.candidates.extend(self.found.iter().map(keep));
            self.found.clear();
        }
    }

    /// Leaves the best k in `found`, best first.
    #[inline(always)]
    pub(super) fn settle(&mut self, corpus: &Corpus, score: impl Fn(usize) -> f32) {
        self.drop_losers();
        self.resolve(corpus, score);
        self.candidates.clear();
    }

    fn drop_losers(&mut self) {
        if self.candidates.len() <= self.k {
            return;
        }
        // Bounds are never NaN.
        let by_low = |a: &Candidate, b: &Candidate| b.low.partial_cmp(&a.low).unwrap_or(Ordering::Equal);
        let (_, kth, _) = self.candidates.select_nth_unstable_by(self.k - 1, by_low);
        self.bar = self.bar.max(kth.low);
        let bar = self.bar;
        self.candidates.retain(|candidate| candidate.high >= bar);
    }

    /// Computes every score that is not known yet, in the order of rows in memory; the best k go to `found`.
    #[inline(always)]
    fn resolve(&mut self, corpus: &Corpus, score: impl Fn(usize) -> f32) {
        self.candidates.sort_unstable_by_key(|candidate| candidate.row);
        self.found.clear();
        for candidate in &self.candidates {
            let row = candidate.row as usize;
            let score = if candidate.is_exact { candidate.low } else { score(row) };
            self.found.push(Found { score, id: corpus.id(row), row: candidate.row });
        }
        best(&mut self.found, self.k);
        if self.found.len() == self.k {
            self.bar = self.bar.max(self.found[self.k - 1].score);
        }
    }

    pub(super) fn take_from(&mut self, others: &mut [Self], k: usize) {
        for other in others {
            // Room for k of the best is always there; what is beyond cannot win.
            if self.found.len() + other.found.len() > self.found.capacity() {
                best(&mut self.found, k);
            }
            self.found.append(&mut other.found);
        }
        best(&mut self.found, k);
    }
}

fn best(found: &mut Vec<Found>, k: usize) {
    if found.len() > k {
        found.select_nth_unstable_by(k - 1, Found::order);
        found.truncate(k);
    }
    found.sort_unstable_by(Found::order);
}
