//! Vectors behind the door: lanes that normalise rows, compare pairs of rows, or search a resident corpus. A request holds
//! its vectors, a result what was computed of them and a status; what is computed on was copied to private memory before.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ringlane_layout::limits::{SLOT_BYTES_MAX, TOP_K_MAX, VECTOR_COMPONENTS_MAX};
use ringlane_layout::schema::SlotSchema;
use serde::Deserialize;
use serde_json::Value;

use super::rows::{BAD_VALUE, GOOD, Measure, normalize_rows_i8, normalize_slots, pairs, pairs_i8};
use super::{Corpus, Isa, Queries, Shortlist, merge, scan, settle};
use crate::kernels::door::{BatchCompute, Compute, Door, Group, GroupCompute, GroupHand, LaneShape, OpenKernel, read};

/// Status of a query whose corpus was dropped, or replaced by one of another dimension, since the lane opened.
pub const CORPUS_GONE: u32 = 2;
/// Most queries that are searched for together.
const QUERIES_TOGETHER_MAX: usize = 256;
/// Candidates of all queries that are searched for together; it bounds the memory of a search.
const CANDIDATES_TOGETHER: usize = 128 * 1024;
/// Searches of a lane of which memory is kept for the next ones, and hands' lists.
const SPARES_MAX: usize = 8;

/// Resident corpora by name. A search keeps the one that it began with; the next one takes what the name means then.
#[derive(Clone, Default)]
pub struct Corpora(Arc<RwLock<BTreeMap<String, Arc<Corpus>>>>);

impl Corpora {
    /// The corpus of that name.
    pub fn get(&self, name: &str) -> Option<Arc<Corpus>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Gives the name to a corpus; the one that had it lives on while searches run.
    pub fn put(&self, name: &str, corpus: Corpus) -> Option<Arc<Corpus>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), Arc::new(corpus))
    }

    /// Takes the name away.
    pub fn remove(&self, name: &str) -> Option<Arc<Corpus>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<(String, Arc<Corpus>)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, corpus)| (name.clone(), Arc::clone(corpus))).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Normalize,
    Dot,
    Cosine,
    L2sq,
    Search,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Numbers {
    #[default]
    Float32,
    Int8,
}

impl Numbers {
    fn type_name(self, dim: usize) -> String {
        format!("({dim},){}", if self == Self::Int8 { "|i1" } else { "<f4" })
    }

    fn bytes(self, dim: usize) -> usize {
        if self == Self::Int8 { dim } else { 4 * dim }
    }
}

/// What a client says when it opens a vector lane.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    dim: usize,
    op: Op,
    #[serde(default)]
    dtype: Numbers,
    #[serde(default)]
    corpus: Option<String>,
    #[serde(default)]
    k: Option<usize>,
}

/// The kernel `vectors`.
#[derive(Default)]
pub struct Vectors {
    /// What searches run against.
    pub corpora: Corpora,
}

impl Door for Vectors {
    fn name(&self) -> &'static str {
        "vectors"
    }

    fn open(self: Arc<Self>, parameters: &Value) -> Result<OpenKernel, String> {
        let Parameters { dim, op, dtype, corpus, k } = read(parameters)?;
        if dim == 0 || dim > VECTOR_COMPONENTS_MAX {
            return Err(format!("dim must be 1 to {VECTOR_COMPONENTS_MAX}, not {dim}"));
        }
        if op != Op::Search && (corpus.is_some() || k.is_some()) {
            return Err("corpus and k belong to op=\"search\"".into());
        }
        let vector = |schema: SlotSchema, name: &str, doc: &str| schema.with(name, &dtype.type_name(dim), dtype.bytes(dim), doc);
        let query = || vector(SlotSchema::new("VectorRequest", "One vector."), "vector", "The vector.").padded();
        let status = "0 good, 1 a component is NaN or infinite, 2 the corpus is gone.";
        let (request, result, compute) = match op {
            Op::Normalize => {
                let result = SlotSchema::new("VectorRow", "One vector of length 1; a zero one and a bad one as they came.")
                    .with("vector", &Numbers::Float32.type_name(dim), 4 * dim, "The vector.")
                    .with("status", "<u4", 4, status);
                (query(), result.padded(), Compute::Batch(Arc::new(Normalize { dim, dtype, isa: Isa::detect() })))
            }
            Op::Dot | Op::Cosine | Op::L2sq => {
                let measure = match op {
                    Op::Dot => Measure::Dot,
                    Op::Cosine => Measure::Cosine,
                    _ => Measure::L2sq,
                };
                let request = vector(SlotSchema::new("VectorPair", "Two vectors."), "left", "One vector.");
                let request = vector(request, "right", "The other.");
                let result = SlotSchema::new("VectorValue", "What was computed of two vectors.")
                    .with("value", "<f4", 4, "The value; NaN where the status is not 0.")
                    .with("status", "<u4", 4, status);
                (request.padded(), result.padded(), Compute::Batch(Arc::new(Pairs { measure, dim, dtype, isa: Isa::detect() })))
            }
            Op::Search => {
                let (Some(name), k) = (corpus, k.unwrap_or(10)) else {
                    return Err("op=\"search\" needs corpus=, the name of a corpus".into());
                };
                if !(1..=TOP_K_MAX).contains(&k) {
                    return Err(format!("k must be 1 to {TOP_K_MAX}, not {k}"));
                }
                let Some(corpus) = self.corpora.get(&name) else { return Err(format!("there is no corpus {name:?}; load it first")) };
                if corpus.dim() != dim {
                    return Err(format!("corpus {name:?} has vectors of {}, not of {dim}", corpus.dim()));
                }
                let result = SlotSchema::new("VectorsFound", "The nearest rows of the corpus, best first, ties by id.")
                    .with("ids", &format!("({k},)<u8"), 8 * k, "Ids; beyond `found` all ones.")
                    .with("values", &format!("({k},)<f4"), 4 * k, "Inner products, cosines or squared distances; beyond `found` NaN.")
                    .with("found", "<u4", 4, "Rows found: k, or all where the corpus has fewer.")
                    .with("status", "<u4", 4, status);
                let (corpora, isa, spares) = (self.corpora.clone(), Isa::detect(), Arc::default());
                let search = Search { corpora, name, k, dim, dtype, isa, spares };
                (query(), result.padded(), Compute::Groups(Arc::new(search)))
            }
        };
        for slot in [&request, &result] {
            if slot.size_bytes as u64 > SLOT_BYTES_MAX {
                return Err(format!("vectors of {dim} need slots of {} bytes; at most {SLOT_BYTES_MAX} are possible", slot.size_bytes));
            }
        }
        let shape = LaneShape { request, result, enums: Vec::new(), arena_bytes: 0, hands_max: None };
        Ok(OpenKernel { shape, compute })
    }
}

/// The slots of a batch: whole requests, each with its result.
fn slots<'a>(requests: &'a [u8], slot: usize, results: &'a mut [u8]) -> impl Iterator<Item = (&'a [u8], &'a mut [u8])> {
    let result_slot = results.len() / (requests.len() / slot).max(1);
    requests.chunks_exact(slot).zip(results.chunks_exact_mut(result_slot.max(1)))
}

struct Normalize {
    dim: usize,
    dtype: Numbers,
    isa: Isa,
}

impl BatchCompute for Normalize {
    fn process(&self, requests: &[u8], results: &mut [u8]) {
        let bytes = self.dtype.bytes(self.dim);
        let slot = bytes.next_multiple_of(64);
        if self.dtype == Numbers::Float32 {
            let result_slot = results.len() / (requests.len() / slot).max(1);
            let (input, output) = (bytemuck::cast_slice(requests), bytemuck::cast_slice_mut(results));
            return normalize_slots(self.isa, (input, slot / 4), (output, result_slot / 4), self.dim);
        }
        for (request, result) in slots(requests, slot, results) {
            let (vector, rest) = result.split_at_mut(4 * self.dim);
            let (vector, mut status) = (bytemuck::cast_slice_mut(vector), [GOOD]);
            normalize_rows_i8(self.isa, bytemuck::cast_slice(&request[..bytes]), vector, &mut status, self.dim);
            rest[..4].copy_from_slice(&status[0].to_le_bytes());
        }
    }
}

struct Pairs {
    measure: Measure,
    dim: usize,
    dtype: Numbers,
    isa: Isa,
}

impl BatchCompute for Pairs {
    fn process(&self, requests: &[u8], results: &mut [u8]) {
        let bytes = self.dtype.bytes(self.dim);
        for (request, result) in slots(requests, (2 * bytes).next_multiple_of(64), results) {
            let (left, right) = request[..2 * bytes].split_at(bytes);
            let (mut value, mut status) = ([0.0], [GOOD]);
            match self.dtype {
                Numbers::Int8 => {
                    let (left, right) = (bytemuck::cast_slice(left), bytemuck::cast_slice(right));
                    pairs_i8(self.isa, self.measure, left, right, self.dim, &mut value, &mut status);
                }
                Numbers::Float32 => {
                    let (left, right) = (bytemuck::cast_slice(left), bytemuck::cast_slice(right));
                    pairs(self.isa, self.measure, left, right, self.dim, &mut value, &mut status);
                }
            }
            result[..4].copy_from_slice(&value[0].to_le_bytes());
            result[4..8].copy_from_slice(&status[0].to_le_bytes());
        }
    }
}

struct Search {
    corpora: Corpora,
    name: String,
    k: usize,
    dim: usize,
    dtype: Numbers,
    isa: Isa,
    spares: Arc<Spares>,
}

/// Memory of searches that are over.
#[derive(Default)]
struct Spares {
    /// Queries, with the vectors that they are made of.
    queries: Mutex<Vec<(Queries, Vec<f32>)>>,
    /// A list a query.
    lists: Mutex<Vec<Vec<Shortlist>>>,
}

/// Gives one of the kept things back, if one is there.
fn take_spare<T>(spares: &Mutex<Vec<T>>) -> Option<T> {
    spares.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn keep_spare<T>(spares: &Mutex<Vec<T>>, spare: T) {
    let mut spares = spares.lock().unwrap_or_else(PoisonError::into_inner);
    if spares.len() < SPARES_MAX {
        spares.push(spare);
    }
}

impl GroupCompute for Search {
    fn slots_max(&self) -> usize {
        (CANDIDATES_TOGETHER / Shortlist::candidates_max(self.k)).clamp(1, QUERIES_TOGETHER_MAX)
    }

    fn begin(&self, requests: &[u8]) -> Arc<dyn Group> {
        let bytes = self.dtype.bytes(self.dim);
        let slot = bytes.next_multiple_of(64);
        let count = requests.len() / slot;
        let spare = take_spare(&self.spares.queries).filter(|(queries, _)| queries.room() >= count);
        let (mut queries, mut vectors) = spare.unwrap_or_else(|| {
            let room = count.next_power_of_two().min(self.slots_max()).max(count);
            (Queries::new(self.dim, room), vec![0f32; room * self.dim])
        });
        for (request, vector) in requests.chunks_exact(slot).zip(vectors.chunks_exact_mut(self.dim)) {
            match self.dtype {
                Numbers::Float32 => vector.copy_from_slice(bytemuck::cast_slice(&request[..bytes])),
                Numbers::Int8 => vector.iter_mut().zip(&request[..bytes]).for_each(|(x, byte)| *x = f32::from(byte.cast_signed())),
            }
        }
        let given = &vectors[..count * self.dim];
        let corpus = self.corpora.get(&self.name).filter(|corpus| queries.prepare(self.isa, corpus, given).is_some());
        let (parts, spares) = (Mutex::new(Vec::new()), Arc::clone(&self.spares));
        Arc::new(Searching { corpus, queries, vectors, count, k: self.k, isa: self.isa, parts, spares })
    }
}

/// Queries that are searched for together.
struct Searching {
    /// None: it is gone.
    corpus: Option<Arc<Corpus>>,
    queries: Queries,
    /// What they were made of; kept for the next search.
    vectors: Vec<f32>,
    count: usize,
    k: usize,
    isa: Isa,
    /// What each hand found, a list a query.
    parts: Mutex<Vec<Vec<Shortlist>>>,
    spares: Arc<Spares>,
}

impl Drop for Searching {
    fn drop(&mut self) {
        let queries = std::mem::replace(&mut self.queries, Queries::new(0, 0));
        keep_spare(&self.spares.queries, (queries, std::mem::take(&mut self.vectors)));
    }
}

impl Group for Searching {
    fn pieces(&self) -> usize {
        self.corpus.as_ref().map_or(0, |corpus| corpus.panels())
    }

    fn join(self: Arc<Self>) -> Box<dyn GroupHand> {
        let mut lists = take_spare(&self.spares.lists).unwrap_or_default();
        lists.iter_mut().for_each(|list| list.begin(self.k).expect("lists of a lane have memory for its k"));
        // More than there are queries stay behind, empty.
        lists.extend((lists.len()..self.queries.len()).map(|_| Shortlist::new(self.k)));
        Box::new(Searcher { search: self, lists })
    }

    fn finish(&self, results: &mut [u8]) {
        let mut parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
        let slot = results.len() / self.count.max(1);
        let (mut ids, mut values, mut lists) = (vec![u64::MAX; self.k], vec![f32::NAN; self.k], Vec::with_capacity(parts.len()));
        for (query, result) in results.chunks_exact_mut(slot.max(1)).enumerate() {
            ids.fill(u64::MAX);
            values.fill(f32::NAN);
            let (mut found, mut status) = (0, CORPUS_GONE);
            if let Some(corpus) = &self.corpus {
                lists.extend(parts.iter_mut().map(|part| std::mem::take(&mut part[query])));
                found = merge(corpus, self.k, &mut lists, &mut ids, &mut values);
                parts.iter_mut().zip(lists.drain(..)).for_each(|(part, list)| part[query] = list);
                status = self.queries.statuses()[query];
            }
            debug_assert!([GOOD, BAD_VALUE, CORPUS_GONE].contains(&status));
            let fields = [bytemuck::cast_slice(&ids), bytemuck::cast_slice(&values), &(found as u32).to_le_bytes(), &status.to_le_bytes()];
            let mut at = 0;
            for field in fields {
                result[at..at + field.len()].copy_from_slice(field);
                at += field.len();
            }
        }
        parts.into_iter().for_each(|lists| keep_spare(&self.spares.lists, lists));
    }
}

struct Searcher {
    search: Arc<Searching>,
    lists: Vec<Shortlist>,
}

impl GroupHand for Searcher {
    fn work(&mut self, pieces: Range<usize>) {
        // Without a corpus there is one empty piece.
        if let Some(corpus) = &self.search.corpus {
            let lists = &mut self.lists[..self.search.queries.len()];
            scan(self.search.isa, corpus, &self.search.queries, 0, lists, pieces.start..pieces.end.min(corpus.panels()));
        }
    }

    fn leave(mut self: Box<Self>) {
        if let Some(corpus) = &self.search.corpus {
            settle(self.search.isa, corpus, &self.search.queries, 0, &mut self.lists[..self.search.queries.len()]);
        }
        self.search.parts.lock().unwrap_or_else(PoisonError::into_inner).push(self.lists);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::vectors::{Metric, normalize_rows, plain_scan};
    use serde_json::json;

    fn open(corpora: &Corpora, parameters: &Value) -> Result<OpenKernel, String> {
        Arc::new(Vectors { corpora: corpora.clone() }).open(parameters)
    }

    /// Requests as whole slots.
    fn packed(rows: &[Vec<f32>], slot: usize) -> Vec<f32> {
        rows.iter().flat_map(|row| row.iter().copied().chain(std::iter::repeat(0.0)).take(slot / 4)).collect()
    }

    fn batch(open: &OpenKernel, rows: &[Vec<f32>]) -> Vec<f32> {
        let Compute::Batch(compute) = &open.compute else { panic!("a batch") };
        let mut results = vec![0f32; rows.len() * open.shape.result.size_bytes / 4];
        compute.process(bytemuck::cast_slice(&packed(rows, open.shape.request.size_bytes)), bytemuck::cast_slice_mut(&mut results));
        results
    }

    #[test]
    fn rows_and_pairs_are_computed_slot_by_slot() {
        let corpora = Corpora::default();
        let normalize = open(&corpora, &json!({"dim": 20, "op": "normalize"})).unwrap();
        assert_eq!((normalize.shape.request.size_bytes, normalize.shape.result.size_bytes), (128, 128));
        let mut rows = vec![vec![0.0; 20]; 3];
        (rows[0][0], rows[0][19], rows[2][5]) = (3.0, 4.0, f32::NAN);
        let results = batch(&normalize, &rows);
        assert_eq!((results[0], results[19], results[20].to_bits()), (0.6, 0.8, GOOD));
        assert_eq!((results[32 + 5], results[32 + 20].to_bits(), results[64 + 20].to_bits()), (0.0, GOOD, BAD_VALUE));
        let l2sq = open(&corpora, &json!({"dim": 2, "op": "l2sq"})).unwrap();
        let results = batch(&l2sq, &[vec![1.0, 2.0, 4.0, 6.0], vec![f32::INFINITY, 0.0, 0.0, 0.0]]);
        assert_eq!((results[0], results[1].to_bits(), results[17].to_bits()), (25.0, GOOD, BAD_VALUE));
    }

    #[test]
    fn rows_that_are_summed_together_have_the_bits_of_each_alone() {
        for (dim, count) in [(1, 9), (16, 4), (20, 7), (37, 13), (100, 1)] {
            let normalize = open(&Corpora::default(), &json!({"dim": dim, "op": "normalize"})).unwrap();
            let mut rows: Vec<Vec<f32>> =
                (0..count).map(|row| (0..dim).map(|at| ((row * 7919 + at * 104_729) % 2003) as f32 / 7.0 - 140.0).collect()).collect();
            (rows[count / 2][dim - 1], rows[count - 1]) = (f32::INFINITY, vec![0.0; dim]);
            let (results, slot) = (batch(&normalize, &rows), normalize.shape.result.size_bytes / 4);
            for (row, result) in rows.iter().zip(results.chunks(slot)) {
                let (mut alone, mut status) = (vec![0.0; dim], [GOOD]);
                normalize_rows(Isa::plain(), row, &mut alone, &mut status, dim);
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!((bits(&result[..dim]), result[dim].to_bits()), (bits(&alone), status[0]));
            }
        }
    }

    fn search(open: &OpenKernel, rows: &[Vec<f32>], hands: usize) -> Vec<u8> {
        let Compute::Groups(compute) = &open.compute else { panic!("groups") };
        let group = compute.begin(bytemuck::cast_slice(&packed(rows, open.shape.request.size_bytes)));
        let mut hands: Vec<_> = (0..hands).map(|_| Arc::clone(&group).join()).collect();
        for piece in 0..group.pieces().max(1) {
            let hand = piece % hands.len();
            hands[hand].work(piece..piece + 1);
        }
        hands.into_iter().for_each(GroupHand::leave);
        let mut results = vec![0; rows.len() * open.shape.result.size_bytes];
        group.finish(&mut results);
        results
    }

    #[test]
    fn a_search_by_several_hands_is_the_plain_scan_and_survives_its_corpus() {
        let corpora = Corpora::default();
        let values: Vec<f32> = (0..5 * 700u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0).collect();
        let corpus = Corpus::from_rows(Isa::detect(), &values, 5, Metric::L2, None).unwrap();
        let expected = plain_scan(Isa::plain(), &corpus, &values[..5], 3);
        corpora.put("news", corpus);
        let lane = open(&corpora, &json!({"dim": 5, "op": "search", "corpus": "news", "k": 3})).unwrap();
        let rows = [values[..5].to_vec(), vec![f32::NAN; 5]];
        let word = |results: &[u8], at: usize| u32::from_le_bytes(results[at..at + 4].try_into().unwrap());
        for hands in [1, 2, 5] {
            let results = search(&lane, &rows, hands);
            let ids: Vec<u64> = results[..24].chunks(8).map(|id| u64::from_le_bytes(id.try_into().unwrap())).collect();
            assert_eq!(ids, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            assert_eq!((word(&results, 36), word(&results, 40)), (3, GOOD));
            assert_eq!((word(&results, 64 + 36), word(&results, 64 + 40)), (0, BAD_VALUE));
        }
        corpora.remove("news");
        let results = search(&lane, &rows, 1);
        assert_eq!((word(&results, 36), word(&results, 40)), (0, CORPUS_GONE));
    }

    #[test]
    fn wrong_parameters_are_refused_in_words() {
        let corpora = Corpora::default();
        let words = |parameters: Value| open(&corpora, &parameters).err().unwrap();
        assert!(words(json!({"dim": 0, "op": "dot"})).contains("dim must be 1"));
        assert!(words(json!({"dim": 4, "op": "mean"})).contains("mean"));
        assert!(words(json!({"dim": 4, "op": "dot", "k": 3})).contains("belong to"));
        assert!(words(json!({"dim": 4, "op": "search"})).contains("needs corpus"));
        assert!(words(json!({"dim": 4, "op": "search", "corpus": "x"})).contains("no corpus \"x\""));
        assert!(words(json!({"dim": 4, "op": "search", "corpus": "x", "k": 1001})).contains("k must be 1 to 1000"));
        assert!(words(json!({"dim": 60000, "op": "normalize"})).contains("need slots of"));
        corpora.put("x", Corpus::from_rows(Isa::plain(), &[1.0, 2.0], 2, Metric::L2, None).unwrap());
        assert!(words(json!({"dim": 4, "op": "search", "corpus": "x"})).contains("has vectors of 2, not of 4"));
    }
}
