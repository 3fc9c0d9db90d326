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
    use super::*;
    use ringlane_layout::board::{LANE, SEQUENCER, Stage, header, lane, sequencer};

    fn identity(address: &str) -> Identity {
        Identity { address: address.into(), epoch: 3, started_ns: 1, config_hash: 7 }
    }

    #[test]
    fn readers_see_whole_rows_and_a_dead_owner_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("socket").to_string_lossy().into_owned();
        let lock = AddressLock::take(&address).unwrap();
        let board = Board::create(&identity(&address), &lock).unwrap();
        let reader = BoardReader::open(&address).unwrap();
        assert_eq!(reader.text(header::ADDRESS, 14), address);
        assert!(reader.row(&LANE, 0).is_none());
        let row = board.row(&LANE, 0);
        let writer = std::thread::spawn(move || {
            (1..200_000).for_each(|n| row.write(&[(lane::LANE, 1), (lane::SUBMITTED, n), (lane::COMPLETED, n)]));
        });
        for words in (0..100_000).filter_map(|_| reader.row(&LANE, 0)) {
            assert_eq!(words[lane::SUBMITTED], words[lane::COMPLETED]);
        }
        writer.join().unwrap();
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
