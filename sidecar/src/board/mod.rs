//! The board: a named segment in which the sidecar publishes its identity and counters, and from which anybody reads them.
//! Nothing is asked of the sidecar to read it. Where each word sits is in `layout`; who serves an address is in `address`.

mod address;
mod leftovers;
mod reader;
mod schema;
mod writer;

pub use address::AddressLock;
pub use leftovers::clear_leftovers;
pub use reader::{BoardReader, Row, text_of};
pub use writer::{Board, BoardRow, Identity, StageTimes};

/// Where POSIX named segments live on Linux.
const SEGMENT_DIRECTORY: &str = "/dev/shm";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use ringlane_layout::board::{LANE, SEQUENCER, Stage, header, sequencer};

    fn identity(address: &str) -> Identity {
        Identity { address: address.into(), epoch: 3, started_ns: 1, config_hash: 7 }
    }

    #[test]
    fn a_dead_owner_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("socket").to_string_lossy().into_owned();
        let lock = AddressLock::take(&address).unwrap();
        let board = Board::create(&identity(&address), &lock).unwrap();
        let reader = BoardReader::open(&address).unwrap();
        assert_eq!(reader.text(header::ADDRESS, 14), address);
        assert!(reader.row(&LANE, 0).is_none());
        assert!(reader.owner_lives());
        assert!(AddressLock::take(&address).is_err_and(|words| words.contains("already serves")));
        drop(lock);
        assert!(!reader.owner_lives());
        std::fs::remove_file(address::lock_path(&address)).unwrap();
        assert!(!reader.owner_lives(), "its pid is that of a younger process");
        board.set(header::STARTED_NS, u64::MAX);
        assert!(reader.owner_lives());
        board.set(header::PID, 0x7fff_ffff);
        assert!(!reader.owner_lives());
        drop(Board::create(&identity(&address), &AddressLock::take(&address).unwrap()).unwrap());
    }

    /// A writer at full speed, every word of a row the same number, until a reader has seen so many different rows, each of them
    /// whole and none older than the one before; and that some attempts met the writer, without which nothing would be proven.
    #[test]
    fn a_torn_row_is_never_given_out() {
        const ROWS: usize = 20_000;
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("socket").to_string_lossy().into_owned();
        let lock = AddressLock::take(&address).unwrap();
        let board = Board::create(&identity(&address), &lock).unwrap();
        let reader = BoardReader::open(&address).unwrap();
        assert!(reader.row(&LANE, 0).is_none(), "an empty row");
        let (row, done) = (board.row(&LANE, 0), AtomicBool::new(false));
        let words = LANE.row_bytes / 8;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut values: Vec<(usize, u64)> = (1..words).map(|word| (word, 0)).collect();
                for number in 1.. {
                    values.iter_mut().for_each(|(_, value)| *value = number);
                    row.write(&values);
                    // Pauses of all lengths, so that readers come before, into and behind a write.
                    (0..number % 64).for_each(|_| std::hint::spin_loop());
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let (mut seen, mut last, mut met) = (0, 0, 0);
            while seen < ROWS || met == 0 {
                met += reader.word_of_row(&LANE, 0, 0) % 2;
                let Some(row) = reader.row(&LANE, 0) else { continue };
                assert!(row[1..words].iter().all(|word| *word == row[1]), "a torn row: {:?}", &row[..words]);
                assert!(row[1] >= last, "a row older than the one before");
                seen += usize::from(row[1] > last);
                last = row[1];
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn counters_add_up_and_times_fall_into_their_buckets() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("socket").to_string_lossy().into_owned();
        let lock = AddressLock::take(&address).unwrap();
        let board = Board::create(&identity(&address), &lock).unwrap();
        let (row, times) = (board.row(&SEQUENCER, 0), board.times(Stage::Kernel));
        (0..5).for_each(|_| row.add(sequencer::FAULTS, 2));
        row.set(sequencer::TRADES, 9);
        [100, 200, 300].into_iter().for_each(|ns| times.add(ns));
        let reader = BoardReader::open(&address).unwrap();
        let words = reader.row(&SEQUENCER, 0).unwrap();
        assert_eq!((words[sequencer::FAULTS], words[sequencer::TRADES]), (10, 9));
        let kernel = reader.times(Stage::Kernel);
        assert_eq!((kernel.count(), kernel.sum_ns, kernel.max_ns), (3, 600, 300));
        assert_eq!(reader.times(Stage::Wake).count(), 0);
    }

    #[test]
    fn boards_of_dead_sidecars_are_cleared_and_those_of_living_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let addresses = ["living", "dead", "vanished"].map(|name| directory.path().join(name).to_string_lossy().into_owned());
        let locks = addresses.clone().map(|address| AddressLock::take(&address).unwrap());
        let boards: Vec<_> = addresses.iter().zip(&locks).map(|(address, lock)| Board::create(&identity(address), lock).unwrap()).collect();
        boards[2].set(header::PID, 0x7fff_ffff);
        let [living, dead, vanished] = locks;
        drop((dead, vanished));
        std::fs::remove_file(address::lock_path(&addresses[2])).unwrap();
        clear_leftovers();
        assert_eq!(addresses.map(|address| BoardReader::open(&address).is_ok()), [true, false, false]);
        drop((boards, living));
    }
}
