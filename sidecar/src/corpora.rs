//! Loading corpora: a file inside of the allowed directory is read, on a thread of its own, into memory of the sidecar's own,
//! and stands on the shelf when it is whole. A file that is truncated later hurts nobody.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use ringlane_layout::limits::{CORPORA_MAX, CORPUS_NAME_BYTES_MAX};
use serde_json::{Value, json};

use crate::kernels::vectors::{self, Corpus, CorpusBuilder, FileFormat, Isa, Metric, VectorFile, read_ids};

/// Rows that are read between two words about how far it is.
const ROWS_A_STEP: usize = 1024;

/// The corpora of a sidecar, those that are being loaded included.
pub struct Corpora {
    shelf: vectors::Corpora,
    directory: Option<PathBuf>,
    bytes_max: u64,
    loads: Mutex<BTreeMap<String, Arc<Load>>>,
}

/// One file that is, or was, being read.
struct Load {
    rows_done: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    /// None while it runs; else how it ended.
    outcome: Mutex<Option<Result<(), String>>>,
}

impl Load {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Corpora {
    /// From files of this directory only, together at most so large.
    #[must_use]
    pub fn new(shelf: vectors::Corpora, directory: Option<PathBuf>, bytes_max: u64) -> Self {
        Self { shelf, directory, bytes_max, loads: Mutex::new(BTreeMap::new()) }
    }

    fn loads(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Load>>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to load a file under a name; [`Corpora::list`] says how far it is. Words that say why not.
    pub fn load(self: &Arc<Self>, name: &str, path: &str, metric: &str, ids: Option<&str>) -> Result<(), String> {
        if name.is_empty() || name.len() > CORPUS_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!("a corpus's name has 1 to {CORPUS_NAME_BYTES_MAX} bytes and no control characters"));
        }
        let metric = match metric {
            "ip" => Metric::InnerProduct,
            "cosine" => Metric::Cosine,
            "l2" => Metric::L2,
            other => return Err(format!("metric is \"ip\", \"cosine\" or \"l2\", not {other:?}")),
        };
        let format = FileFormat::of_name(path).ok_or_else(|| format!("{path:?} must end in .npy or .fvecs"))?;
        let file = self.open(path)?;
        let ids = ids.map(|path| self.open(path).map(|file| (file, path.to_owned()))).transpose()?;
        let load = Arc::new(Load { rows_done: 0.into(), rows: 0.into(), bytes: 0.into(), outcome: Mutex::new(None) });
        {
            let mut loads = self.loads();
            if loads.get(name).is_some_and(|load| load.outcome().is_none()) {
                return Err(format!("the corpus {name:?} is being loaded; wait for it"));
            }
            if loads.len() >= CORPORA_MAX && !loads.contains_key(name) {
                return Err(format!("there are {CORPORA_MAX} corpora, the most that a sidecar has; drop one"));
            }
            loads.insert(name.to_owned(), Arc::clone(&load));
        }
        let (corpora, name, path) = (Arc::clone(self), name.to_owned(), path.to_owned());
        let started = std::thread::Builder::new().name("corpus".into()).spawn({
            let load = Arc::clone(&load);
            move || {
                let outcome = corpora.read(file, format, metric, ids, &load).map(|corpus| drop(corpora.shelf.put(&name, corpus)));
                let outcome = outcome.map_err(|words| format!("{path}: {words}"));
                match &outcome {
                    Ok(()) => tracing::info!(name, path, "corpus loaded"),
                    Err(words) => tracing::warn!(name, words, "a corpus could not be loaded"),
                }
                *load.outcome() = Some(outcome);
            }
        });
        if let Err(error) = started {
            *load.outcome() = Some(Err(format!("no thread can be had: {error}")));
        }
        Ok(())
    }

    /// Opens a regular file below the allowed directory; no part of its path may be a symbolic link or lead out of it.
    fn open(&self, path: &str) -> Result<File, String> {
        let Some(directory) = &self.directory else {
            return Err("this sidecar loads no corpora; set corpus_directory in [vectors] of its configuration".into());
        };
        let say = |error: Errno| match error {
            Errno::ELOOP | Errno::EXDEV => {
                format!("{path:?} is not a plain path inside of the corpus directory: no links, no \"..\", not absolute")
            }
            error => format!("cannot open {path:?} in the corpus directory: {error}"),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let root = open(directory.as_path(), flags | OFlag::O_DIRECTORY, Mode::empty())
            .map_err(|error| format!("cannot open the corpus directory {}: {error}", directory.display()))?;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        // O_NONBLOCK: a pipe that somebody put there must not keep the thread waiting.
        let how = OpenHow::new().flags(flags | OFlag::O_NONBLOCK).resolve(resolve);
        let file = File::from(openat2(&root, Path::new(path), how).map_err(say)?);
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        if is_file { Ok(file) } else { Err(format!("{path:?} is not a regular file")) }
    }

    fn read(&self, file: File, format: FileFormat, metric: Metric, ids: Option<(File, String)>, load: &Load) -> Result<Corpus, String> {
        let length = file.metadata().map_err(|error| error.to_string())?.size();
        let mut vectors = VectorFile::open(BufReader::with_capacity(1 << 20, file), format, length).map_err(|error| error.to_string())?;
        let (dim, rows) = (vectors.dim(), vectors.rows());
        let bytes_of_ids = if ids.is_some() { 8 * rows } else { 0 };
        let bytes = Corpus::bytes_for(dim, rows) as u64 + bytes_of_ids as u64;
        load.rows.store(rows as u64, Ordering::Relaxed);
        // Charged before it is taken; two loads at once see each other.
        load.bytes.store(bytes, Ordering::SeqCst);
        let held = self.bytes();
        if held > self.bytes_max {
            load.bytes.store(0, Ordering::SeqCst);
            return Err(format!("it needs {bytes} bytes, and all corpora together may have {} (corpus_bytes_max)", self.bytes_max));
        }
        let ids = ids.map(|(file, path)| read_ids(BufReader::new(file), rows).map_err(|error| format!("{path:?}: {error}"))).transpose()?;
        let isa = Isa::detect();
        let mut builder = CorpusBuilder::new(dim, rows, metric, ids).map_err(|error| error.to_string())?;
        let mut values = vec![0.0; dim * ROWS_A_STEP];
        loop {
            let count = vectors.read(&mut values).map_err(|error| error.to_string())?;
            if count == 0 {
                return builder.finish().map_err(|error| error.to_string());
            }
            builder.push(isa, &values[..count * dim]).map_err(|error| error.to_string())?;
            load.rows_done.store(builder.rows() as u64, Ordering::Relaxed);
        }
    }

    /// Memory of all that stand or are being loaded.
    fn bytes(&self) -> u64 {
        let loading: u64 =
            self.loads().values().filter(|load| load.outcome().is_none()).map(|load| load.bytes.load(Ordering::SeqCst)).sum();
        loading + self.shelf.all().iter().map(|(_, corpus)| corpus.bytes() as u64).sum::<u64>()
    }

    /// All corpora and loads: what stands, how far a load is, and why one failed.
    #[must_use]
    pub fn list(&self) -> Vec<Value> {
        let standing: BTreeMap<_, _> = self.shelf.all().into_iter().collect();
        let loads = self.loads();
        let names: std::collections::BTreeSet<&String> = standing.keys().chain(loads.keys()).collect();
        let entry = |name: &&String| {
            let mut entry = json!({"name": name, "ready": standing.contains_key(*name), "loading": false, "error": null});
            if let Some(corpus) = standing.get(*name) {
                let metric = match corpus.metric() {
                    Metric::InnerProduct => "ip",
                    Metric::Cosine => "cosine",
                    Metric::L2 => "l2",
                };
                entry["rows"] = json!(corpus.rows());
                entry["dim"] = json!(corpus.dim());
                entry["bytes"] = json!(corpus.bytes());
                entry["metric"] = json!(metric);
            }
            if let Some(load) = loads.get(*name) {
                let outcome = load.outcome();
                entry["loading"] = json!(outcome.is_none());
                entry["progress"] = json!([load.rows_done.load(Ordering::Relaxed), load.rows.load(Ordering::Relaxed)]);
                if let Some(Err(words)) = &*outcome {
                    entry["error"] = json!(words);
                }
            }
            entry
        };
        names.iter().map(entry).collect()
    }

    /// Takes a corpus away; searches under way end with it, later ones say that it is gone. False: there is none.
    #[must_use]
    pub fn remove(&self, name: &str) -> bool {
        let mut loads = self.loads();
        let loading = loads.get(name).is_some_and(|load| load.outcome().is_none());
        if !loading {
            loads.remove(name);
        }
        drop(loads);
        self.shelf.remove(name).is_some()
    }
}
