//! Exact top-k: scan the compact form, keep who may win, compute their f32 scores. The answer is the plain scan's, bit for
//! bit, whatever the split. Work is split by queries and by panels of the corpus: each part has a shortlist a query;
//! `scan` may be called for one range of panels after another, `settle` ends a part, `merge` joins the parts of a query.

use std::ops::Range;

use ringlane_layout::limits::CORPUS_ROWS_MAX;

use super::compact::{PanelFacts, QueryFacts, groups, put_query};
use super::corpus::Corpus;
use super::isa::{GROUP, Isa, PANEL_ROWS, QueryGroup, Simd, TILE_QUERIES, Tile, Work};
use super::reduce::{dot_raw, is_finite};
use super::rows::{BAD_VALUE, GOOD};
use super::shortlist::{Found, Shortlist};

/// Queries made ready: copied, compact, with their bounds. Shared by every part of a search.
pub struct Queries {
    dim: usize,
    count: usize,
    vectors: Vec<f32>,
    squares: Vec<f32>,
    tiles: Vec<QueryGroup>,
    facts: Vec<QueryFacts>,
    statuses: Vec<u32>,
}

impl Queries {
    /// Memory for up to `most` queries of `dim` components; none is had later.
    pub fn new(dim: usize, most: usize) -> Self {
        Self {
            dim,
            count: 0,
            vectors: vec![0.0; most * dim],
            squares: vec![0.0; most],
            tiles: vec![[[0; GROUP]; TILE_QUERIES]; most.div_ceil(TILE_QUERIES) * groups(dim)],
            facts: vec![QueryFacts::default(); most],
            statuses: vec![GOOD; most],
        }
    }

    /// Queries that it has memory for.
    pub fn room(&self) -> usize {
        self.statuses.len()
    }

    /// Takes the queries of the next search. `None` where the corpus has another dimension, the values are no whole rows,
    /// or are more than there is memory for. A query with NaN or an infinity gets a status and finds nothing.
    pub fn prepare(&mut self, isa: Isa, corpus: &Corpus, queries: &[f32]) -> Option<()> {
        let count = queries.len() / self.dim.max(1);
        if corpus.dim() != self.dim || !queries.len().is_multiple_of(self.dim) || count > self.statuses.len() {
            return None;
        }
        self.count = count;
        self.vectors[..queries.len()].copy_from_slice(queries);
        isa.run(Prepare(self, corpus));
        Some(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A status a query.
    pub fn statuses(&self) -> &[u32] {
        &self.statuses[..self.count]
    }

    fn vector(&self, query: usize) -> &[f32] {
        &self.vectors[query * self.dim..][..self.dim]
    }

    /// The components of a query's tile, and its place there.
    fn tile(&self, query: usize) -> (&[QueryGroup], usize) {
        let groups = groups(self.dim);
        (&self.tiles[query / TILE_QUERIES * groups..][..groups], query % TILE_QUERIES)
    }
}

struct Prepare<'a>(&'a mut Queries, &'a Corpus);

impl Work for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(queries, corpus) = self;
        let groups = groups(queries.dim);
        for at in 0..queries.count {
            let vector = &queries.vectors[at * queries.dim..][..queries.dim];
            let tile = &mut queries.tiles[at / TILE_QUERIES * groups..][..groups];
            queries.squares[at] = dot_raw(simd, vector, vector);
            // The sum of squares of anything with a NaN or an infinity is one of them too.
            let is_good = queries.squares[at].is_finite() || is_finite(vector);
            queries.statuses[at] = if is_good { GOOD } else { BAD_VALUE };
            queries.facts[at] = match is_good {
                true => put_query(corpus.metric(), vector, tile, at % TILE_QUERIES),
                false => QueryFacts::default(),
            };
        }
    }
}

/// Scans `panels` of the corpus for queries `first` to `first + lists.len()`; list `i` gains candidates of query `first + i`.
/// Panics where there are fewer queries or panels.
pub fn scan(isa: Isa, corpus: &Corpus, queries: &Queries, first: usize, lists: &mut [Shortlist], panels: Range<usize>) {
    assert!(first + lists.len() <= queries.count && panels.end <= corpus.panels(), "the part lies outside the search");
    isa.run(Scan { part: Part { isa, corpus, queries }, first, lists, panels });
}

/// What a part of a search reads.
#[derive(Clone, Copy)]
struct Part<'a> {
    isa: Isa,
    corpus: &'a Corpus,
    queries: &'a Queries,
}

struct Scan<'a> {
    part: Part<'a>,
    first: usize,
    lists: &'a mut [Shortlist],
    panels: Range<usize>,
}

impl Work for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { part, first, lists, panels } = self;
        let Part { corpus, queries, .. } = part;
        let mut tile: Tile = [[0; PANEL_ROWS]; TILE_QUERIES];
        for panel in panels {
            let mut at = 0;
            while at < lists.len() {
                let query = first + at;
                // As many as stand together in one tile: 8, 4, 2 or 1.
                let room = (lists.len() - at).min(TILE_QUERIES - query % TILE_QUERIES);
                let together = 1 << room.ilog2();
                let (groups, facts) = corpus.panel(panel);
                let (tile_queries, slot) = queries.tile(query);
                match together {
                    8 => simd.tile::<8>(groups, tile_queries, 0, &mut tile),
                    4 => simd.tile::<4>(groups, tile_queries, slot, &mut tile),
                    2 => simd.tile::<2>(groups, tile_queries, slot, &mut tile),
                    _ => simd.tile::<1>(groups, tile_queries, slot, &mut tile),
                }
                for (products, list) in tile[slot..slot + together].iter().zip(&mut lists[at..]) {
                    part.select(first + at, list, panel, products, facts);
                    at += 1;
                }
            }
        }
    }
}

impl Part<'_> {
    /// Takes up who may be among the best k of a query.
    #[inline(always)]
    fn select(self, query: usize, list: &mut Shortlist, panel: usize, products: &[i32; PANEL_ROWS], rows: &PanelFacts) {
        let facts = &self.queries.facts[query];
        if !facts.is_compact {
            return self.select_plainly(query, list, panel);
        }
        let (mut scores, mut errors) = ([0f32; PANEL_ROWS], [0f32; PANEL_ROWS]);
        let mut reaches = 0u32;
        for row in 0..PANEL_ROWS {
            let square = rows.norm[row] * rows.norm[row];
            let product = products[row].wrapping_sub(facts.excess) as f32;
            let score = product * rows.factor[row] * facts.factor - (facts.weight * square + facts.base);
            let known = facts.per_norm * rows.norm[row] + facts.per_square * square + facts.slack;
            let error = facts.per_error * rows.error[row] + known;
            reaches |= u32::from(score + error >= list.bar);
            (scores[row], errors[row]) = (score, error);
        }
        if reaches != 0 {
            self.take_up(query, list, panel, &scores, &errors);
        }
    }

    #[inline(never)]
    fn take_up(self, query: usize, list: &mut Shortlist, panel: usize, scores: &[f32; PANEL_ROWS], errors: &[f32; PANEL_ROWS]) {
        let first = panel * PANEL_ROWS;
        for row in 0..PANEL_ROWS.min(self.corpus.rows() - first) {
            let (score, error) = (scores[row], errors[row]);
            if score + error >= list.bar {
                list.add((first + row) as u32, score - error, score + error);
            }
        }
        if list.is_crowded() {
            self.isa.run(ThinOut(self, query, list));
        }
    }

    /// The same where the compact form says nothing of the query: every row of the panel by its f32 score.
    #[cold]
    fn select_plainly(self, query: usize, list: &mut Shortlist, panel: usize) {
        if self.queries.statuses[query] == GOOD {
            self.isa.run(ScorePanel(self, query, list, panel));
        }
    }

    #[inline(always)]
    fn score<S: Simd>(self, simd: S, query: usize, row: usize) -> f32 {
        self.corpus.score(simd, row, self.queries.vector(query), self.queries.squares[query])
    }
}

struct ThinOut<'a>(Part<'a>, usize, &'a mut Shortlist);

impl Work for ThinOut<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(part, query, list) = self;
        list.thin_out(
            part.corpus,
            #[inline(always)]
            |row| part.score(simd, query, row),
        );
    }
}

struct ScorePanel<'a>(Part<'a>, usize, &'a mut Shortlist, usize);

impl Work for ScorePanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self(part, query, list, panel) = self;
        let first = panel * PANEL_ROWS;
        for row in first..part.corpus.rows().min(first + PANEL_ROWS) {
            let score = part.score(simd, query, row);
            if score >= list.bar {
                list.add_exact(row as u32, score);
            }
        }
        if list.is_crowded() {
            list.thin_out(
                part.corpus,
                #[inline(always)]
                |row| part.score(simd, query, row),
            );
        }
    }
}

/// Ends a part: what it found stands in each list, best first, with f32 scores.
pub fn settle(isa: Isa, corpus: &Corpus, queries: &Queries, first: usize, lists: &mut [Shortlist]) {
    struct Settle<'a>(Part<'a>, usize, &'a mut [Shortlist]);
    impl Work for Settle<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self(part, first, lists) = self;
            for (query, list) in (first..).zip(lists) {
                list.settle(
                    part.corpus,
                    #[inline(always)]
                    |row| part.score(simd, query, row),
                );
            }
        }
    }
    isa.run(Settle(Part { isa, corpus, queries }, first, lists));
}

/// Joins the settled parts of one query, in any order, and empties them: best first, ties by id. Gives how many were
/// found: k, or all rows where there are fewer, or none for a bad query. Values are as the metric has them.
pub fn merge(corpus: &Corpus, k: usize, parts: &mut [Shortlist], ids: &mut [u64], values: &mut [f32]) -> usize {
    let Some((first, others)) = parts.split_first_mut() else { return 0 };
    first.take_from(others, k);
    let found = first.found();
    for ((found, id), value) in found.iter().zip(&mut *ids).zip(&mut *values) {
        (*id, *value) = (found.id, corpus.metric().seen(found.score));
    }
    found.len().min(ids.len()).min(values.len())
}

/// The obvious way, for comparison: the f32 score of every row, all sorted. Values are as the metric has them.
pub fn plain_scan(isa: Isa, corpus: &Corpus, query: &[f32], k: usize) -> Vec<(u64, f32)> {
    struct Every<'a>(&'a Corpus, &'a [f32]);
    impl Work for Every<'_> {
        type Output = Vec<Found>;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> Self::Output {
            let Self(corpus, query) = self;
            let squares = dot_raw(simd, query, query);
            let found = |row| Found { score: corpus.score(simd, row, query, squares), id: corpus.id(row), row: row as u32 };
            (0..corpus.rows()).map(found).collect()
        }
    }
    let mut all = isa.run(Every(corpus, query));
    all.sort_by(Found::order);
    all.truncate(k);
    all.iter().map(|found| (found.id, corpus.metric().seen(found.score))).collect()
}

const _: () = assert!(CORPUS_ROWS_MAX <= u32::MAX as usize);
