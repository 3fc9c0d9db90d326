//! What the vector library does without a lane: rows normalised and corpora searched by 1 or 2 threads, one line of JSON
//! a measurement; and `proof`, which finds the published neighbours of the real SIFT vectors.

use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use ringlane_sidecar::kernels::vectors::{
    Corpus, FileFormat, Isa, Metric, Queries, Shortlist, VectorFile, merge, normalize_rows, scan, settle,
};

#[derive(Parser)]
#[command(about = "Measures the vector library, or proves it on the SIFT vectors; times in ns")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Rows of random numbers made of length 1.
    Normalize {
        /// Rows a batch.
        #[arg(long, default_value_t = 5000)]
        rows: usize,
        /// Components a row.
        #[arg(long, default_value_t = 768)]
        dim: usize,
        /// Threads, each with an equal share of the rows.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Batches; the median counts.
        #[arg(long, default_value_t = 101)]
        count: usize,
    },
    /// The best k of a random corpus by inner product.
    Search {
        /// Rows of the corpus.
        #[arg(long, default_value_t = 100_000)]
        rows: usize,
        /// Components a row.
        #[arg(long, default_value_t = 384)]
        dim: usize,
        /// Queries a batch.
        #[arg(long, default_value_t = 1)]
        queries: usize,
        /// Rows to find.
        #[arg(long, default_value_t = 10)]
        k: usize,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Batches; the median counts.
        #[arg(long, default_value_t = 31)]
        count: usize,
        /// Random clusters with this spread instead of independent numbers.
        #[arg(long)]
        spread: Option<f32>,
    },
    /// The published top 20 of three queries among 5,000 SIFT vectors, by L2 distance.
    Proof,
}

/// Numbers that are nearly normal; the same for the same seed.
fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut unit = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (0..6).map(|_| unit()).sum()).collect()
}

/// Rows of length 1, independent or about 100 centres.
fn rows_of(seed: u64, rows: usize, dim: usize, spread: Option<f32>) -> Vec<f32> {
    let noise = random(seed, rows * dim);
    let values = match spread {
        None => noise,
        Some(spread) => {
            let centres = random(99, 100 * dim);
            let centre = |at: usize| centres[at / dim * 37 % 100 * dim + at % dim];
            noise.iter().enumerate().map(|(at, x)| centre(at) + spread * x).collect()
        }
    };
    let (mut output, mut statuses) = (vec![0.0; values.len()], vec![0; rows]);
    normalize_rows(Isa::detect(), &values, &mut output, &mut statuses, dim);
    output
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(count: usize, mut work: impl FnMut()) -> u128 {
    work();
    let one = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos()
    };
    median((0..count.max(1)).map(one).collect())
}

fn normalize(rows: usize, dim: usize, threads: usize, count: usize) {
    let isa = Isa::detect();
    let input = random(1, rows * dim);
    let (mut output, mut statuses) = (vec![0.0; rows * dim], vec![0; rows]);
    let share = rows.div_ceil(threads.max(1)).max(1);
    let ns = timed(count, || {
        std::thread::scope(|scope| {
            let parts = input.chunks(share * dim).zip(output.chunks_mut(share * dim)).zip(statuses.chunks_mut(share));
            for (at, ((input, output), statuses)) in parts.enumerate() {
                let mut work = move || normalize_rows(isa, input, output, statuses, dim);
                if at + 1 == rows.div_ceil(share) { work() } else { drop(scope.spawn(work)) }
            }
        });
        black_box(&output);
    });
    println!(
        "{{\"task\": \"normalize\", \"isa\": \"{}\", \"rows\": {rows}, \"dim\": {dim}, \"threads\": {threads}, \"ns\": {ns}}}",
        isa.name()
    );
}

/// One thread's part: which queries, which panels, and their lists.
struct Part {
    first: usize,
    panels: std::ops::Range<usize>,
    lists: Vec<Shortlist>,
}

/// Few queries are split by panels, many by queries, so that each list is warmed up once.
fn parts(corpus: &Corpus, queries: usize, k: usize, threads: usize) -> Vec<Part> {
    let lists = |count: usize| (0..count).map(|_| Shortlist::new(k)).collect();
    let share = |total: usize, at: usize| total * at / threads;
    let part = |at| match queries >= 8 * threads {
        true => {
            let range = share(queries, at)..share(queries, at + 1);
            Part { first: range.start, panels: 0..corpus.panels(), lists: lists(range.len()) }
        }
        false => Part { first: 0, panels: share(corpus.panels(), at)..share(corpus.panels(), at + 1), lists: lists(queries) },
    };
    (0..threads).map(part).collect()
}

#[allow(clippy::too_many_arguments)]
fn search(rows: usize, dim: usize, count_queries: usize, k: usize, threads: usize, count: usize, spread: Option<f32>) {
    let isa = Isa::detect();
    let stored = rows_of(1, rows, dim, spread);
    let start = Instant::now();
    let corpus = Corpus::from_rows(isa, &stored, dim, Metric::InnerProduct, None).expect("a good corpus");
    drop(stored);
    let load_ns = start.elapsed().as_nanos();
    let asked = rows_of(2, count_queries, dim, spread);
    let mut queries = Queries::new(dim, count_queries);
    let mut parts = parts(&corpus, count_queries, k, threads.max(1));
    let (mut ids, mut values) = (vec![0; k], vec![0.0; k]);
    let mut checksum = 0u64;
    let ns = timed(count, || {
        queries.prepare(isa, &corpus, &asked).expect("queries of the corpus's dimension");
        std::thread::scope(|scope| {
            let last = parts.len() - 1;
            for (at, part) in parts.iter_mut().enumerate() {
                let (corpus, queries) = (&corpus, &queries);
                let mut work = move || {
                    part.lists.iter_mut().for_each(|list| list.begin(k).expect("a list for k"));
                    scan(isa, corpus, queries, part.first, &mut part.lists, part.panels.clone());
                    settle(isa, corpus, queries, part.first, &mut part.lists);
                };
                if at == last { work() } else { drop(scope.spawn(work)) }
            }
        });
        checksum = 0;
        for query in 0..count_queries {
            let of_query = |part: &mut Part| {
                let at = query.checked_sub(part.first)?;
                part.lists.get_mut(at).map(|list| std::mem::replace(list, Shortlist::new(1)))
            };
            let mut lists: Vec<Shortlist> = parts.iter_mut().filter_map(of_query).collect();
            let found = merge(&corpus, k, &mut lists, &mut ids, &mut values);
            checksum = ids[..found].iter().fold(checksum, |sum, id| sum.wrapping_mul(31).wrapping_add(*id));
            let mut lists = lists.into_iter();
            for part in &mut parts {
                if let Some(list) = query.checked_sub(part.first).and_then(|at| part.lists.get_mut(at)) {
                    *list = lists.next().expect("as many lists as were taken");
                }
            }
        }
    });
    println!(
        "{{\"task\": \"search\", \"isa\": \"{}\", \"rows\": {rows}, \"dim\": {dim}, \"queries\": {count_queries}, \"k\": {k}, \"threads\": {threads}, \"ns\": {ns}, \"load_ns\": {load_ns}, \"checksum\": {checksum}}}",
        isa.name()
    );
}

/// Lines of numbers. The last of each line beyond `dim` is the vector's own number, which the published list does not use.
fn table(text: &str, dim: usize) -> Vec<f32> {
    text.lines().flat_map(|line| line.split_whitespace().take(dim).map(|word| word.parse::<f32>().expect("a number"))).collect()
}

/// The published neighbours: lines `rank id distance` below a heading a query. Ids count from 1.
fn published(text: &str) -> Vec<Vec<(u64, f32)>> {
    let mut queries: Vec<Vec<(u64, f32)>> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["Query", _] => queries.push(Vec::new()),
            [_, id, distance] => {
                let known = (id.parse().expect("an id"), distance.parse().expect("a distance"));
                queries.last_mut().expect("a heading").push(known);
            }
            _ => {}
        }
    }
    queries
}

fn unzipped(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_string(&mut text)?;
    Ok(text)
}

const SIFT_DIM: usize = 128;

/// Searches the SIFT vectors, written as .fvecs and read back, and counts the published neighbours in their published places.
fn proof(directory: &Path) -> std::io::Result<ExitCode> {
    if !directory.join("ngt-sift-dataset-5k.tsv.gz").exists() {
        println!("skipped: no vectors in {}", directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    let isa = Isa::detect();
    let stored = table(&unzipped(&directory.join("ngt-sift-dataset-5k.tsv.gz"))?, SIFT_DIM);
    let file: Vec<u8> = stored
        .chunks(SIFT_DIM)
        .flat_map(|row| std::iter::once((SIFT_DIM as u32).to_le_bytes()).chain(row.iter().map(|x| x.to_le_bytes())))
        .flatten()
        .collect();
    let mut reader = VectorFile::open(&file[..], FileFormat::Fvecs, file.len() as u64).expect("a good file");
    let mut values = vec![0.0; reader.rows() * reader.dim()];
    let rows = reader.read(&mut values).expect("a good file");
    let ids = (1..=rows as u64).collect();
    let corpus = Corpus::from_rows(isa, &values, SIFT_DIM, Metric::L2, Some(ids)).expect("a good corpus");
    let asked = table(&std::fs::read_to_string(directory.join("ngt-sift-query-3.tsv"))?, SIFT_DIM);
    let expected = published(&std::fs::read_to_string(directory.join("ngt-readme-top20.txt"))?);
    let mut queries = Queries::new(SIFT_DIM, expected.len());
    queries.prepare(isa, &corpus, &asked).expect("queries of the corpus's dimension");
    let (mut right, mut wanted) = (0, 0);
    for (query, neighbours) in expected.iter().enumerate() {
        let k = neighbours.len();
        let mut lists = [Shortlist::new(k)];
        lists[0].begin(k).expect("a list for k");
        scan(isa, &corpus, &queries, query, &mut lists, 0..corpus.panels());
        settle(isa, &corpus, &queries, query, &mut lists);
        let (mut ids, mut squares) = (vec![0; k], vec![0.0f32; k]);
        let found = merge(&corpus, k, &mut lists, &mut ids, &mut squares);
        wanted += k;
        // Published distances have six digits.
        let agrees = |at: &usize| ids[*at] == neighbours[*at].0 && (squares[*at].sqrt() - neighbours[*at].1).abs() < 1.01e-3;
        right += (0..found).filter(agrees).count();
    }
    println!("{right} of {wanted} published neighbours of {rows} SIFT vectors, in place and distance");
    println!("{right} passed, {} failed", wanted - right);
    Ok(if right == wanted && wanted > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> std::io::Result<ExitCode> {
    match Cli::parse().task {
        Task::Normalize { rows, dim, threads, count } => normalize(rows, dim, threads, count),
        Task::Search { rows, dim, queries, k, threads, count, spread } => search(rows, dim, queries, k, threads, count, spread),
        Task::Proof => {
            let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/vectors");
            return proof(&std::env::var_os("RINGLANE_VECTORS_DIR").map_or(beside, PathBuf::from));
        }
    }
    Ok(ExitCode::SUCCESS)
}
