//! A resident corpus: its rows in float32, aligned and padded, and beside them the compact form that searches scan.
//!
//! ```text
//! rows     row 0: dim x f32, padded with zeros to 64 bytes | row 1 | ...
//! panels   panel 0 (rows 0 to 63): group 0 = components 0..4 of 64 rows, 256 bytes | group 1 | ...  | panel 1 | ...
//! facts    panel 0: factor, error and norm of 64 rows | panel 1 | ...
//! ```

use std::fmt;

use ringlane_layout::limits::{CORPUS_ROWS_MAX, VECTOR_COMPONENTS_MAX};

use super::compact::{PanelFacts, groups, put_row};
use super::isa::{Group, Isa, PANEL_ROWS, Simd, Work};
use super::reduce::{LANES, cosine, dot, dot_raw, l2sq};

/// By what a corpus is searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// The largest inner products.
    InnerProduct,
    /// The largest cosines; 0.0 with a zero vector.
    Cosine,
    /// The smallest squared Euclidean distances.
    L2,
}

impl Metric {
    /// The value as a user sees it, from the score of which more is better, and back.
    pub(super) fn seen(self, score: f32) -> f32 {
        if self == Self::L2 { -score } else { score }
    }
}

/// Why a corpus could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CorpusError {
    /// A dimension of 0 or above the limit.
    Dimension(usize),
    /// More rows than a corpus may have, or than were announced.
    TooManyRows {
        /// Rows that were to be stored.
        rows: usize,
        /// The most.
        most: usize,
    },
    /// Fewer rows came than were announced.
    MissingRows {
        /// Rows that came.
        rows: usize,
        /// Rows announced.
        announced: usize,
    },
    /// Values that are no whole number of rows.
    BrokenRow(usize),
    /// NaN or an infinity.
    NotFinite {
        /// Its row.
        row: usize,
        /// Its component.
        component: usize,
    },
    /// Not one id a row.
    Ids {
        /// Ids given.
        ids: usize,
        /// Rows announced.
        rows: usize,
    },
    /// The memory is not there, bytes.
    Memory(usize),
}

impl fmt::Display for CorpusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimension(dim) => write!(f, "vectors have {dim} components; give 1 to {VECTOR_COMPONENTS_MAX}"),
            Self::TooManyRows { rows, most } => write!(f, "{rows} rows do not fit; at most {most} may come"),
            Self::MissingRows { rows, announced } => write!(f, "only {rows} of {announced} rows came; the file may be cut off"),
            Self::BrokenRow(values) => write!(f, "{values} values are no whole number of rows"),
            Self::NotFinite { row, component } => {
                write!(
                    f,
                    "row {row}, component {component} is NaN or infinite; a corpus holds finite numbers only: remove or repair that row"
                )
            }
            Self::Ids { ids, rows } => write!(f, "{ids} ids for {rows} rows; give one id a row, or none"),
            Self::Memory(bytes) => write!(f, "{bytes} bytes of memory could not be had for the corpus"),
        }
    }
}

impl std::error::Error for CorpusError {}

/// Sixteen components, aligned to a cache line.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Vectors that searches run against. Never changes once it is made, so any number of threads may read it.
pub struct Corpus {
    metric: Metric,
    dim: usize,
    rows: usize,
    lines: Vec<Line>,
    squares: Vec<f32>,
    panels: Vec<Group>,
    facts: Vec<PanelFacts>,
    ids: Option<Vec<u64>>,
}

impl Corpus {
    /// A corpus of rows that are in memory already, row after row. Row numbers are the ids where none are given.
    pub fn from_rows(isa: Isa, rows: &[f32], dim: usize, metric: Metric, ids: Option<Vec<u64>>) -> Result<Self, CorpusError> {
        if dim == 0 {
            return Err(CorpusError::Dimension(dim));
        }
        let mut builder = CorpusBuilder::new(dim, rows.len() / dim, metric, ids)?;
        builder.push(isa, rows)?;
        builder.finish()
    }

    /// By what it is searched.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Components of each row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Panels: the units that a scan is split into, `PANEL_ROWS` rows each; the last may be partly empty.
    pub fn panels(&self) -> usize {
        self.facts.len()
    }

    /// Memory that a corpus takes, bytes, without its ids.
    pub fn bytes_for(dim: usize, rows: usize) -> usize {
        let panels = rows.div_ceil(PANEL_ROWS);
        let of_panel = groups(dim) * size_of::<Group>() + size_of::<PanelFacts>();
        let of_row = dim.div_ceil(LANES) * size_of::<Line>() + size_of::<f32>();
        rows.saturating_mul(of_row).saturating_add(panels.saturating_mul(of_panel))
    }

    /// Memory that it takes, bytes.
    pub fn bytes(&self) -> usize {
        Self::bytes_for(self.dim, self.rows) + self.ids.as_ref().map_or(0, |ids| size_of_val(ids.as_slice()))
    }

    /// Row `row`, `dim` components. Panics beyond the last row.
    pub fn row(&self, row: usize) -> &[f32] {
        let stride = self.dim.div_ceil(LANES);
        &bytemuck::cast_slice(&self.lines[row * stride..(row + 1) * stride])[..self.dim]
    }

    /// The id of row `row`. Panics beyond the last row.
    pub fn id(&self, row: usize) -> u64 {
        self.ids.as_ref().map_or(row as u64, |ids| ids[row])
    }

    /// The f32 score of a row, more is better: what every search must answer exactly.
    #[inline(always)]
    pub(super) fn score<S: Simd>(&self, simd: S, row: usize, query: &[f32], query_squares: f32) -> f32 {
        let vector = self.row(row);
        match self.metric {
            Metric::InnerProduct => dot(simd, query, vector),
            Metric::Cosine => cosine(simd, query, vector, query_squares, self.squares[row]),
            Metric::L2 => -l2sq(simd, query, vector),
        }
    }

    pub(super) fn panel(&self, panel: usize) -> (&[Group], &PanelFacts) {
        let groups = groups(self.dim);
        (&self.panels[panel * groups..(panel + 1) * groups], &self.facts[panel])
    }
}

/// Takes the rows of a corpus in portions, so that whoever loads a file can say how far it is.
pub struct CorpusBuilder {
    corpus: Corpus,
    announced: usize,
}

impl CorpusBuilder {
    /// For `rows` rows of `dim` components. All memory is had here, or refused. Ids, where given, are one a row.
    pub fn new(dim: usize, rows: usize, metric: Metric, ids: Option<Vec<u64>>) -> Result<Self, CorpusError> {
        if dim == 0 || dim > VECTOR_COMPONENTS_MAX {
            return Err(CorpusError::Dimension(dim));
        }
        if rows > CORPUS_ROWS_MAX {
            return Err(CorpusError::TooManyRows { rows, most: CORPUS_ROWS_MAX });
        }
        if let Some(ids) = &ids
            && ids.len() != rows
        {
            return Err(CorpusError::Ids { ids: ids.len(), rows });
        }
        let panels = rows.div_ceil(PANEL_ROWS);
        let no_memory = |_| CorpusError::Memory(Corpus::bytes_for(dim, rows));
        let mut corpus =
            Corpus { metric, dim, rows: 0, lines: Vec::new(), squares: Vec::new(), panels: Vec::new(), facts: Vec::new(), ids };
        corpus.lines.try_reserve_exact(rows * dim.div_ceil(LANES)).map_err(no_memory)?;
        corpus.squares.try_reserve_exact(rows).map_err(no_memory)?;
        corpus.panels.try_reserve_exact(panels * groups(dim)).map_err(no_memory)?;
        corpus.facts.try_reserve_exact(panels).map_err(no_memory)?;
        Ok(Self { corpus, announced: rows })
    }

    /// Rows taken so far.
    pub fn rows(&self) -> usize {
        self.corpus.rows
    }

    /// Takes the next rows, or none of them.
    pub fn push(&mut self, isa: Isa, values: &[f32]) -> Result<(), CorpusError> {
        let dim = self.corpus.dim;
        if !values.len().is_multiple_of(dim) {
            return Err(CorpusError::BrokenRow(values.len()));
        }
        let rows = self.corpus.rows + values.len() / dim;
        if rows > self.announced {
            return Err(CorpusError::TooManyRows { rows, most: self.announced });
        }
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(CorpusError::NotFinite { row: self.corpus.rows + at / dim, component: at % dim });
        }
        isa.run(Push { corpus: &mut self.corpus, values });
        Ok(())
    }

    /// The corpus, once every announced row has come.
    pub fn finish(self) -> Result<Corpus, CorpusError> {
        if self.corpus.rows < self.announced {
            return Err(CorpusError::MissingRows { rows: self.corpus.rows, announced: self.announced });
        }
        Ok(self.corpus)
    }
}

struct Push<'a> {
    corpus: &'a mut Corpus,
    values: &'a [f32],
}

impl Work for Push<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Corpus { metric, dim, rows, lines, squares, panels, facts, .. } = self.corpus;
        let groups = groups(*dim);
        for vector in self.values.chunks_exact(*dim) {
            let slot = *rows % PANEL_ROWS;
            if slot == 0 {
                facts.push(PanelFacts::ZERO);
                panels.resize(panels.len() + groups, Group([0; _]));
            }
            let stored = lines.len();
            lines.resize(stored + dim.div_ceil(LANES), Line([0.0; LANES]));
            bytemuck::cast_slice_mut(&mut lines[stored..])[..*dim].copy_from_slice(vector);
            squares.push(dot_raw(simd, vector, vector));
            let (last, start) = (facts.len() - 1, panels.len() - groups);
            put_row(*metric, vector, &mut panels[start..], &mut facts[last], slot);
            *rows += 1;
        }
    }
}
