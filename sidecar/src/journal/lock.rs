//! The lock on a journal directory: two sidecars never share a journal.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// The lock, held for the life of the sidecar.
#[derive(Debug)]
pub struct JournalLock {
    _file: Flock<File>,
}

impl JournalLock {
    /// Creates the directory if need be and locks it, or says who holds it. Segments that were never finished are removed.
    pub fn take(directory: &Path) -> Result<Self, String> {
        let say = |error: &dyn std::fmt::Display| format!("cannot use the journal directory {}: {error}", directory.display());
        std::fs::create_dir_all(directory).map_err(|error| say(&error))?;
        let file = File::options().create(true).truncate(false).write(true).open(directory.join("lock")).map_err(|error| say(&error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let unfinished = |path: &Path| path.to_str().is_some_and(|name| name.ends_with(".ringlane.new"));
                for path in std::fs::read_dir(directory).map_err(|error| say(&error))?.flatten().map(|entry| entry.path()) {
                    if unfinished(&path) {
                        std::fs::remove_file(&path).map_err(|error| say(&error))?;
                    }
                }
                Ok(Self { _file: file })
            }
            Err((_, error)) => Err(say(&format!("another sidecar holds it ({error})"))),
        }
    }
}
