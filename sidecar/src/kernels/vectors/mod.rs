//! Vectors: normalising, inner products, cosines, squared distances, and exact top-k against resident corpora. A pure
//! library: no clock, thread, shared memory or hidden state; callers split work by rows and queries as they like, and the
//! bits of every result are the same for every split and every processor.
//!
//! ```
//! use ringlane_sidecar::kernels::vectors::{Corpus, CorpusBuilder, Isa, Metric, Queries, Shortlist, merge, scan, settle};
//!
//! let isa = Isa::detect();
//! let mut builder = CorpusBuilder::new(2, 3, Metric::L2, None).unwrap();
//! builder.push(isa, &[0.0, 0.0, 3.0, 4.0, 1.0, 1.0]).unwrap();
//! let corpus: Corpus = builder.finish().unwrap();
//! let mut queries = Queries::new(2, 1);
//! queries.prepare(isa, &corpus, &[1.0, 0.0]).unwrap();
//! let mut lists = [Shortlist::new(2)];
//! lists[0].begin(2).unwrap();
//! scan(isa, &corpus, &queries, 0, &mut lists, 0..corpus.panels());
//! settle(isa, &corpus, &queries, 0, &mut lists);
//! let (mut ids, mut scores) = ([0; 2], [0.0; 2]);
//! let found = merge(&corpus, 2, &mut lists, &mut ids, &mut scores);
//! assert_eq!((found, ids, scores), (2, [0, 2], [1.0, 1.0]));
//! ```

mod compact;
mod corpus;
mod files;
mod isa;
mod lane;
mod reduce;
mod rows;
mod search;
mod shortlist;
#[cfg(test)]
mod tests;

pub use corpus::{Corpus, CorpusBuilder, CorpusError, Metric};
pub use files::{FileFormat, VectorFile, VectorFileError, read_ids};
pub use isa::{Isa, PANEL_ROWS};
pub use lane::{CORPUS_GONE, Corpora, Vectors};
pub use reduce::LANES;
pub use rows::{BAD_VALUE, GOOD, Measure, against_one, against_one_i8, normalize_rows, normalize_rows_i8, pairs, pairs_i8};
pub use search::{Queries, merge, plain_scan, scan, settle};
pub use shortlist::{Found, Shortlist};
