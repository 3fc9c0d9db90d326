//! The vector library against obvious twins: every instruction set against the plain one bit for bit, searches against the
//! plain scan on random, clustered and adversarial data, files against malformed headers. Random cases print their seed.

use proptest::prelude::*;

use super::isa::{GROUP, Group, PANEL_ROWS, QueryGroup, Simd, TILE_QUERIES, Tile, Work};
use super::*;

/// A small generator, so that a case is its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// From -1 to 1.
    fn unit(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 24) as f32).mul_add(2.0, -1.0)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Nearly normal.
    fn bell(&mut self) -> f32 {
        (0..6).map(|_| self.unit()).sum::<f32>() * 0.7
    }
}

/// Kinds of data that searches meet, and kinds that are made to hurt them.
#[derive(Clone, Copy, Debug)]
enum Data {
    Random,
    Clustered,
    AllEqual,
    AllZero,
    HugeNorms,
    Denormal,
    MixedNorms,
    FewDistinct,
    Integers,
    NearTies,
}

const EVERY_DATA: [Data; 10] = [
    Data::Random,
    Data::Clustered,
    Data::AllEqual,
    Data::AllZero,
    Data::HugeNorms,
    Data::Denormal,
    Data::MixedNorms,
    Data::FewDistinct,
    Data::Integers,
    Data::NearTies,
];

fn vectors(kind: Data, random: &mut Random, dim: usize, rows: usize) -> Vec<f32> {
    let centres: Vec<f32> = (0..4 * dim).map(|_| random.bell() * 3.0).collect();
    let mut values = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        let (centre, scale) = (random.below(4), 10f32.powi(random.below(60) as i32 - 30));
        for at in 0..dim {
            let bell = random.bell();
            values.push(match kind {
                Data::Random => bell,
                Data::Clustered => centres[centre * dim + at] + bell * 0.01,
                Data::AllEqual => centres[at],
                Data::AllZero => 0.0,
                Data::HugeNorms => (bell * 1e38).clamp(-f32::MAX, f32::MAX),
                Data::Denormal => bell * 1e-41,
                Data::MixedNorms => bell * scale,
                Data::FewDistinct => centres[centre * dim + at],
                Data::Integers => (bell * 20.0).round(),
                Data::NearTies => centres[at] + bell * 1e-6,
            });
        }
    }
    values
}

/// Searches by parts as a pool would: `splits` ranges of panels, the queries in one or two parts.
fn search(isa: Isa, corpus: &Corpus, queries: &[f32], k: usize, splits: usize) -> Vec<Vec<(u64, u32)>> {
    let count = queries.len() / corpus.dim();
    let mut ready = Queries::new(corpus.dim(), count);
    ready.prepare(isa, corpus, queries).unwrap();
    let mut parts: Vec<Vec<Shortlist>> = (0..splits).map(|_| (0..count).map(|_| Shortlist::new(k)).collect()).collect();
    let edge = |part: usize| corpus.panels() * part / splits;
    for (number, lists) in parts.iter_mut().enumerate() {
        lists.iter_mut().for_each(|list| list.begin(k).unwrap());
        let middle = count * (number % 2) / 3;
        let (left, right) = lists.split_at_mut(middle);
        for panel in edge(number)..edge(number + 1) {
            scan(isa, corpus, &ready, 0, left, panel..panel + 1);
        }
        scan(isa, corpus, &ready, middle, right, edge(number)..edge(number + 1));
        settle(isa, corpus, &ready, 0, left);
        settle(isa, corpus, &ready, middle, right);
    }
    let (mut ids, mut values) = (vec![0; k], vec![0.0; k]);
    let mut answers = Vec::new();
    for query in 0..count {
        let mut lists: Vec<Shortlist> = parts.iter_mut().map(|lists| std::mem::replace(&mut lists[query], Shortlist::new(1))).collect();
        let found = merge(corpus, k, &mut lists, &mut ids, &mut values);
        answers.push((0..found).map(|at| (ids[at], values[at].to_bits())).collect());
    }
    answers
}

fn plainly(corpus: &Corpus, query: &[f32], k: usize) -> Vec<(u64, u32)> {
    plain_scan(Isa::plain(), corpus, query, k).into_iter().map(|(id, value)| (id, value.to_bits())).collect()
}

fn agree(kind: Data, metric: Metric, seed: u64, dim: usize, rows: usize, k: usize) {
    let mut random = Random(seed);
    let values = vectors(kind, &mut random, dim, rows);
    let mut queries = vectors(kind, &mut random, dim, 11);
    // One query is a row of the corpus, one is zero, one is of another kind.
    queries[..dim].copy_from_slice(&values[..dim]);
    queries[dim..2 * dim].fill(0.0);
    queries[2 * dim..3 * dim].copy_from_slice(&vectors(Data::Random, &mut random, dim, 1));
    let ids = random.below(2).eq(&0).then(|| (0..rows).map(|_| random.next() % 50).collect());
    for isa in Isa::available() {
        let corpus = Corpus::from_rows(isa, &values, dim, metric, ids.clone()).unwrap();
        for splits in [1, 3] {
            let answers = search(isa, &corpus, &queries, k, splits);
            for (query, answer) in queries.chunks_exact(dim).zip(answers) {
                assert_eq!(answer, plainly(&corpus, query, k), "{kind:?} {metric:?} seed {seed} dim {dim} rows {rows} k {k} {isa:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_search_answers_as_the_plain_scan_does(
        kind in 0..EVERY_DATA.len(), metric in 0..3usize, seed: u64, dim in 1..70usize, rows in 1..900usize, k in 1..40usize
    ) {
        let metric = [Metric::InnerProduct, Metric::Cosine, Metric::L2][metric];
        agree(EVERY_DATA[kind], metric, seed, dim, rows, k);
    }
}

#[test]
fn every_kind_of_data_by_every_metric_with_many_rows_and_the_largest_k() {
    for (seed, kind) in (1..).zip(EVERY_DATA) {
        for metric in [Metric::InnerProduct, Metric::Cosine, Metric::L2] {
            agree(kind, metric, seed, 24, 3000, 5);
        }
        agree(kind, Metric::L2, seed, 5, 2500, 1000);
    }
}

/// The bound itself: no f32 score lies outside what the compact form says of it.
#[test]
fn the_bound_holds_for_each_row() {
    struct Bounds<'a>(&'a Corpus, &'a [f32]);
    impl Work for Bounds<'_> {
        type Output = f64;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> f64 {
            let Self(corpus, query) = self;
            let mut tile_queries = vec![[[0; GROUP]; TILE_QUERIES]; compact::groups(corpus.dim())];
            let facts = compact::put_query(corpus.metric(), query, &mut tile_queries, 0);
            let squares = reduce::dot_raw(simd, query, query);
            let mut tile: Tile = [[0; PANEL_ROWS]; TILE_QUERIES];
            let mut closest = f64::INFINITY;
            for row in 0..corpus.rows() {
                let (groups, rows) = corpus.panel(row / PANEL_ROWS);
                simd.tile::<1>(groups, &tile_queries, 0, &mut tile);
                let slot = row % PANEL_ROWS;
                let square = rows.norm[slot] * rows.norm[slot];
                let product = tile[0][slot].wrapping_sub(facts.excess) as f32;
                let score = product * rows.factor[slot] * facts.factor - (facts.weight * square + facts.base);
                let error =
                    facts.per_error * rows.error[slot] + (facts.per_norm * rows.norm[slot] + facts.per_square * square + facts.slack);
                let exact = corpus.score(simd, row, query, squares);
                assert!((exact - score).abs() <= error, "row {row}: {exact} is not {score} within {error}");
                closest = closest.min(f64::from(error) / f64::from((exact - score).abs()));
            }
            closest
        }
    }
    let mut random = Random(11);
    for kind in [Data::Random, Data::Clustered, Data::Integers, Data::NearTies] {
        for metric in [Metric::InnerProduct, Metric::Cosine, Metric::L2] {
            for dim in [1, 3, 64, 384] {
                let values = vectors(kind, &mut random, dim, 300);
                let corpus = Corpus::from_rows(Isa::plain(), &values, dim, metric, None).unwrap();
                let query = vectors(kind, &mut random, dim, 1);
                Isa::detect().run(Bounds(&corpus, &query));
            }
        }
    }
}

#[test]
fn the_int8_tile_is_the_same_everywhere() {
    struct Products<'a>(&'a [Group], &'a [QueryGroup]);
    impl Work for Products<'_> {
        type Output = Vec<Tile>;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> Vec<Tile> {
            let mut tiles = vec![[[0; PANEL_ROWS]; TILE_QUERIES]; 4];
            simd.tile::<8>(self.0, self.1, 0, &mut tiles[0]);
            simd.tile::<4>(self.0, self.1, 3, &mut tiles[1]);
            simd.tile::<2>(self.0, self.1, 5, &mut tiles[2]);
            simd.tile::<1>(self.0, self.1, 7, &mut tiles[3]);
            tiles
        }
    }
    let mut random = Random(5);
    for groups in [1, 2, 7, 96] {
        for extreme in [false, true] {
            let mut byte = || if extreme { 255 } else { random.next() as u8 };
            let panel: Vec<Group> = (0..groups).map(|_| Group([(); PANEL_ROWS * GROUP].map(|()| byte()))).collect();
            let queries: Vec<QueryGroup> =
                (0..groups).map(|_| [(); TILE_QUERIES].map(|()| [(); GROUP].map(|()| byte().min(254) as i8))).collect();
            let twin = Isa::plain().run(Products(&panel, &queries));
            let by_hand: i32 = (0..groups)
                .map(|g| (0..GROUP).map(|c| i32::from(panel[g].0[9 * GROUP + c]) * i32::from(queries[g][7][c])).sum::<i32>())
                .sum();
            assert_eq!(twin[3][7][9], by_hand);
            for isa in Isa::available() {
                assert!(isa.run(Products(&panel, &queries)) == twin, "{isa:?} differs over {groups} groups");
            }
        }
    }
}

/// All that is computed of rows, as bits, and the statuses.
fn everything(isa: Isa, a: &[f32], b: &[f32], dim: usize) -> Vec<u32> {
    let rows = a.len() / dim;
    let (mut values, mut statuses) = (vec![0.0; rows], vec![9; rows]);
    let mut bits = Vec::new();
    for measure in [Measure::Dot, Measure::Cosine, Measure::L2sq] {
        pairs(isa, measure, a, b, dim, &mut values, &mut statuses);
        bits.extend(values.iter().map(|x| x.to_bits()).chain(statuses.iter().copied()));
        against_one(isa, measure, a, &b[..dim], &mut values, &mut statuses);
        bits.extend(values.iter().map(|x| x.to_bits()).chain(statuses.iter().copied()));
    }
    let mut output = vec![0.0; a.len()];
    normalize_rows(isa, a, &mut output, &mut statuses, dim);
    bits.extend(output.iter().map(|x| x.to_bits()).chain(statuses));
    bits
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let mut random = Random(3);
    for kind in EVERY_DATA {
        for dim in [1, 2, 15, 16, 17, 31, 64, 100, 768] {
            let (mut a, b) = (vectors(kind, &mut random, dim, 9), vectors(kind, &mut random, dim, 9));
            a[0] = f32::NAN;
            a[2 * dim] = f32::INFINITY;
            let twin = everything(Isa::plain(), &a, &b, dim);
            for isa in Isa::available() {
                assert_eq!(everything(isa, &a, &b, dim), twin, "{kind:?} dim {dim} {isa:?}");
            }
        }
    }
}

#[test]
fn values_are_right_within_rounding() {
    let mut random = Random(4);
    let dim = 100;
    let (a, b) = (vectors(Data::Random, &mut random, dim, 20), vectors(Data::Random, &mut random, dim, 20));
    let (mut values, mut statuses) = (vec![0.0; 20], vec![9; 20]);
    let wide = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    for measure in [Measure::Dot, Measure::Cosine, Measure::L2sq] {
        pairs(Isa::detect(), measure, &a, &b, dim, &mut values, &mut statuses);
        for (at, (a, b)) in a.chunks(dim).zip(b.chunks(dim)).enumerate() {
            let (expected, size) = match measure {
                Measure::Dot => (wide(a, b), (wide(a, a) * wide(b, b)).sqrt()),
                Measure::Cosine => (wide(a, b) / (wide(a, a) * wide(b, b)).sqrt(), 1.0),
                Measure::L2sq => (wide(a, a) + wide(b, b) - 2.0 * wide(a, b), wide(a, a) + wide(b, b)),
            };
            assert!((f64::from(values[at]) - expected).abs() < 2e-6 * size, "{measure:?} row {at}");
        }
    }
    assert_eq!(statuses, [GOOD; 20]);
    let mut rows = vec![0.0; a.len()];
    normalize_rows(Isa::detect(), &a, &mut rows, &mut statuses, dim);
    assert!(rows.chunks(dim).all(|row| (wide(row, row) - 1.0).abs() < 1e-6));
}

#[test]
fn zero_huge_tiny_and_bad_rows_have_their_own_answers() {
    for isa in Isa::available() {
        let rows = [0.0, -0.0, 3.0, 4.0, f32::NAN, 1.0, 3e38, 3e38, 3e-42, 4e-42, 1.0, f32::NEG_INFINITY];
        let (mut output, mut statuses) = ([9.0; 12], [9; 6]);
        normalize_rows(isa, &rows, &mut output, &mut statuses, 2);
        assert_eq!(statuses, [GOOD, GOOD, BAD_VALUE, GOOD, GOOD, BAD_VALUE]);
        assert_eq!(output[..4], [0.0, -0.0, 0.6, 0.8]);
        assert!(output[4].is_nan() && output[5] == 1.0, "a bad row stays as it is");
        assert!((output[6] - 0.5f32.sqrt()).abs() < 1e-7 && (output[8] - 0.6).abs() < 1e-3 && (output[9] - 0.8).abs() < 1e-3);
        let mut values = [9.0; 6];
        against_one(isa, Measure::Cosine, &rows, &[1.0, 0.0], &mut values, &mut statuses);
        assert_eq!(statuses, [GOOD, GOOD, BAD_VALUE, GOOD, GOOD, BAD_VALUE]);
        assert_eq!(values[..2], [0.0, 0.6]);
        assert!((values[3] - 0.5f32.sqrt()).abs() < 1e-7 && (values[4] - 0.6).abs() < 1e-3, "{values:?}");
        against_one(isa, Measure::Dot, &rows, &[3e38, -3e38], &mut values, &mut statuses);
        assert_eq!((values[3], statuses[3]), (0.0, GOOD), "an overflow on the way is no overflow of the sum");
        against_one(isa, Measure::L2sq, &rows, &[3e38, 3e38], &mut values, &mut statuses);
        assert_eq!((values[3], values[0], statuses[0]), (0.0, f32::INFINITY, GOOD));
    }
}

#[test]
fn int8_rows_are_exact() {
    for isa in Isa::available() {
        let (a, b) = ([-128i8, 127, 3, -4, 0, 0], [-128i8, -128, 1, 1, 5, 5]);
        let (mut values, mut statuses) = ([9.0; 3], [9; 3]);
        pairs_i8(isa, Measure::Dot, &a, &b, 2, &mut values, &mut statuses);
        assert_eq!(values, [128.0, -1.0, 0.0]);
        pairs_i8(isa, Measure::L2sq, &a, &b, 2, &mut values, &mut statuses);
        assert_eq!(values, [65025.0, 29.0, 50.0]);
        against_one_i8(isa, Measure::Cosine, &a, &[3, -4], &mut values, &mut statuses);
        assert_eq!((values[1], values[2]), (1.0, 0.0));
        let mut output = [9.0; 6];
        normalize_rows_i8(isa, &a, &mut output, &mut statuses, 2);
        assert_eq!(output[2..], [0.6, -0.8, 0.0, 0.0]);
        let long = (vec![-128i8; 65_536], vec![127i8; 65_536]);
        pairs_i8(isa, Measure::L2sq, &long.0, &long.1, 65_536, &mut values[..1], &mut statuses[..1]);
        assert_eq!(values[0], (255.0f64 * 255.0 * 65_536.0) as f32);
    }
}

#[test]
fn a_bad_query_finds_nothing_and_spoils_no_other() {
    let isa = Isa::detect();
    let corpus = Corpus::from_rows(isa, &[1.0, 0.0, 0.0, 1.0], 2, Metric::InnerProduct, None).unwrap();
    let answers = search(isa, &corpus, &[f32::NAN, 0.0, 0.0, 2.0, f32::INFINITY, 0.0], 2, 1);
    assert_eq!((answers[0].len(), answers[2].len()), (0, 0));
    assert_eq!(answers[1], [(1, 2f32.to_bits()), (0, 0f32.to_bits())]);
}

#[test]
fn a_corpus_refuses_what_it_cannot_hold() {
    let isa = Isa::detect();
    let make = |rows: &[f32], dim, ids| Corpus::from_rows(isa, rows, dim, Metric::L2, ids).err().map(|error| error.to_string());
    assert!(make(&[1.0, f32::NAN], 2, None).unwrap().starts_with("row 0, component 1 is NaN or infinite"));
    assert!(make(&[1.0, 2.0, f32::INFINITY], 1, None).unwrap().starts_with("row 2, component 0"));
    assert!(make(&[1.0, 2.0, 3.0], 2, None).unwrap().contains("no whole number of rows"));
    assert!(make(&[1.0], 1, Some(vec![1, 2])).unwrap().starts_with("2 ids for 1 rows"));
    assert!(make(&[], 0, None).unwrap().contains("0 components"));
    assert!(make(&[], 70_000, None).unwrap().contains("70000 components"));
    assert_eq!(make(&[], 3, None), None, "a corpus may be empty");
    let mut short = CorpusBuilder::new(1, 2, Metric::L2, None).unwrap();
    short.push(isa, &[1.0]).unwrap();
    assert!(short.push(isa, &[1.0, 2.0]).unwrap_err().to_string().starts_with("3 rows do not fit"));
    assert_eq!(short.finish().err().unwrap().to_string(), "only 1 of 2 rows came; the file may be cut off");
    assert!(CorpusBuilder::new(65_536, 1 << 31, Metric::L2, None).is_err(), "memory that is not there is refused");
    let empty = Corpus::from_rows(isa, &[], 3, Metric::L2, None).unwrap();
    assert_eq!(search(isa, &empty, &[1.0, 2.0, 3.0], 5, 1), [vec![]]);
    let mut list = Shortlist::new(10);
    assert!(list.begin(0).is_none() && list.begin(11).is_none() && list.begin(10).is_some());
}

/// A .npy file as numpy writes it.
fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    match version {
        1 => file.extend((header.len() as u16).to_le_bytes()),
        _ => file.extend((header.len() as u32).to_le_bytes()),
    }
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn read_all(bytes: &[u8], format: FileFormat) -> Result<(usize, Vec<f32>), String> {
    let mut file = VectorFile::open(bytes, format, bytes.len() as u64).map_err(|error| error.to_string())?;
    // Two rows a portion, so that portions matter.
    let (mut all, mut portion) = (Vec::new(), vec![0.0; 2 * file.dim() + 1]);
    loop {
        match file.read(&mut portion).map_err(|error| error.to_string())? {
            0 => return Ok((file.dim(), all)),
            rows => all.extend(&portion[..rows * file.dim()]),
        }
    }
}

#[test]
fn good_files_are_read() {
    let floats: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let expected = Ok((2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    for version in 1..=3 {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }          \n";
        assert_eq!(read_all(&npy(version, header, &floats), FileFormat::Npy), expected);
    }
    let header = "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"|i1\"}";
    assert_eq!(read_all(&npy(1, header, &[1, 255, 128, 127, 0, 2]), FileFormat::Npy), Ok((3, vec![1.0, -1.0, -128.0, 127.0, 0.0, 2.0])));
    let empty = "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2), }\n";
    assert_eq!(read_all(&npy(1, empty, &[]), FileFormat::Npy), Ok((2, vec![])));
    let fvecs: Vec<u8> = floats.chunks(8).flat_map(|row| [&2u32.to_le_bytes()[..], row].concat()).collect();
    assert_eq!(read_all(&fvecs, FileFormat::Fvecs), expected);
    assert_eq!(FileFormat::of_name("a.b/c.fvecs"), Some(FileFormat::Fvecs));
    assert_eq!((FileFormat::of_name("x.npy"), FileFormat::of_name("npy")), (Some(FileFormat::Npy), None));
}

#[test]
fn malformed_files_are_refused_in_words() {
    let with = |descr: &str, order: &str, shape: &str, data: usize| {
        let header = format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
        read_all(&npy(1, &header, &vec![0; data]), FileFormat::Npy).unwrap_err()
    };
    for (error, words) in [
        (with("'<f8'", "False", "(1, 2)", 16), "type is \"<f8\""),
        (with("[('a', '<f4')]", "False", "(1, 2)", 8), "has fields"),
        (with("'<f4'", "True", "(1, 2)", 8), "Fortran order"),
        (with("'<f4'", "Maybe", "(1, 2)", 8), "neither True nor False"),
        (with("'<f4'", "False", "(2,)", 8), "two dimensions"),
        (with("'<f4'", "False", "()", 4), "two dimensions"),
        (with("'<f4'", "False", "(1, 2, 1)", 8), "two dimensions"),
        (with("'<f4'", "False", "(1, 99999999999)", 8), "too large"),
        (with("'<f4'", "False", "(1, -2)", 8), "no number"),
        (with("'<f4'", "False", "(4294967295, 65536)", 8), "at most"),
        (with("'<f4'", "False", "(1, 0)", 0), "0 components"),
        (with("'<f4'", "False", "(1, 2)", 7), "need"),
        (with("'<f4'", "False", "(1, 2)", 9), "need"),
        (with("<f4", "False", "(1, 2)", 8), "malformed"),
    ] {
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
    let npy_error = |bytes: &[u8]| read_all(bytes, FileFormat::Npy).unwrap_err();
    assert!(npy_error(b"").contains("ends within the .npy header"));
    assert!(npy_error(b"\x93NUMPX\x01\x00").contains("does not begin"));
    assert!(npy_error(b"\x93NUMPY\x09\x00").contains("version 9"));
    assert!(npy_error(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").contains("claims 4294967295 bytes"));
    assert!(npy_error(&npy(1, "{} and more", &[])).contains("goes on behind"));
    assert!(npy_error(&npy(1, "{}", &[])).contains("lacks"));
    assert!(npy_error(&npy(1, "{'color': 1}", &[])).contains("unknown entry"));
    let fvecs_error = |bytes: &[u8]| read_all(bytes, FileFormat::Fvecs).unwrap_err();
    assert!(fvecs_error(&[1, 0]).contains("ends within the first dimension"));
    assert!(fvecs_error(&[0xff; 8]).contains("claims -1 components"));
    assert!(fvecs_error(&[1, 0, 0, 0, 0, 0]).contains("no multiple of 8"));
    assert!(fvecs_error(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]).contains("vector 1 has 2 components"));
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_refused() {
    let fvecs = [1u8, 0, 0, 0, 0, 0, 0, 0];
    let mut file = VectorFile::open(&fvecs[..], FileFormat::Fvecs, 80).unwrap();
    assert!(file.read(&mut [0.0; 10]).unwrap_err().to_string().contains("cut off or was changed"));
}

#[test]
fn ids_are_read_one_a_row_and_never_more() {
    let data: Vec<u8> = [7u64, u64::MAX].iter().flat_map(|id| id.to_le_bytes()).chain([1, 2, 3]).collect();
    let file = |descr: &str, shape: &str| npy(1, &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"), &data);
    let ids = |file: &[u8], rows| read_ids(file, rows).map_err(|error| error.to_string());
    assert_eq!(ids(&file("<u8", "(2,)"), 2), Ok(vec![7, u64::MAX]));
    assert_eq!(ids(&file("<i8", "(2, 1)"), 2), Ok(vec![7, u64::MAX]));
    assert!(ids(&file("<u8", "(3,)"), 2).unwrap_err().contains("3 ids for 2 rows"));
    assert!(ids(&file("<u8", "(3,)"), 3).unwrap_err().contains("ends within its ids"));
    assert!(ids(&file("<u8", "(1, 2)"), 2).unwrap_err().contains("one dimension"));
    assert!(ids(&file("<f8", "(2,)"), 2).unwrap_err().contains("int64"));
    let many = usize::MAX / 16;
    assert!(ids(&file("<u8", "(4294967295,)"), many).unwrap_err().contains("4294967295 ids"));
}

proptest! {
    #[test]
    fn no_header_makes_the_reader_panic(cut in 0..80usize, at in 0..80usize, byte: u8) {
        let mut file = npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }\n", &[0; 24]);
        if let Some(there) = file.get_mut(at) { *there = byte; }
        file.truncate(file.len().saturating_sub(cut));
        let _ = read_all(&file, FileFormat::Npy);
        let _ = read_all(&file, FileFormat::Fvecs);
    }
}
