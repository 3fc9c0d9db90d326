//! What a target begins with: its seeds, the inputs of earlier failures, and what runs guided by coverage found worth keeping,
//! packed into one file a target. Whoever fuzzes reads all of it; only `make fuzz KEEP=1` writes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::xxh3_64;

use super::Target;

/// Longest input that is packed, and most bytes of all of a target: an archive is a beginning, not a store.
const INPUT_BYTES_MAX: usize = 2_048;
const PACKED_BYTES_MAX: usize = 96 << 10;

/// Where the inputs of failures of a target are kept.
#[must_use]
pub fn failures(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn archive(target: &str) -> PathBuf {
    failures(target).with_extension("gz")
}

/// The files of a directory, in the order of their names; none where there is no directory.
#[must_use]
pub fn files(directory: &Path) -> Vec<Vec<u8>> {
    let files = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| fs::read(path).expect("a corpus file can be read")).collect()
}

/// All that a target begins with.
#[must_use]
pub fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    inputs.extend(files(&failures(target.name)));
    if let Ok(file) = File::open(archive(target.name)) {
        inputs.extend(unpacked(file));
    }
    inputs
}

fn unpacked(file: impl Read) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).expect("a packed corpus");
    let (mut rest, mut inputs) = (&bytes[..], Vec::new());
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (input, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = behind;
    }
    inputs
}

/// Each behind its length, the shortest first, as many as there is room for.
fn packed(mut inputs: Vec<Vec<u8>>, file: impl Write) -> io::Result<usize> {
    inputs.retain(|input| input.len() <= INPUT_BYTES_MAX);
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    let (mut gzip, mut total, mut count) = (GzEncoder::new(file, Compression::best()), 0, 0);
    for input in inputs {
        total += 4 + input.len();
        if total > PACKED_BYTES_MAX {
            break;
        }
        gzip.write_all(&(input.len() as u32).to_le_bytes())?;
        gzip.write_all(&input)?;
        count += 1;
    }
    gzip.finish()?;
    Ok(count)
}

/// Packs the inputs of a directory into the target's file.
///
/// # Errors
/// When the file cannot be written.
pub fn keep(target: &Target, directory: &Path) -> io::Result<usize> {
    packed(files(directory), File::create(archive(target.name))?)
}

/// Writes all that a target begins with into a directory, each input under a name of its own.
///
/// # Errors
/// When a file cannot be written.
pub fn lay_out(target: &Target, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    inputs(target).iter().try_for_each(|input| fs::write(directory.join(format!("begin-{:016x}", xxh3_64(input))), input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let inputs = vec![vec![], vec![7], vec![1, 2, 3], vec![9; INPUT_BYTES_MAX]];
        let mut file = Vec::new();
        let with_a_long_one = [inputs.clone(), vec![vec![0; INPUT_BYTES_MAX + 1]]].concat();
        assert_eq!(packed(with_a_long_one, &mut file).expect("room in memory"), 4);
        assert_eq!(unpacked(&file[..]), inputs);
        let many: Vec<Vec<u8>> = (0..100_u8).map(|byte| vec![byte; 2_000]).collect();
        let mut file = Vec::new();
        assert_eq!(packed(many, &mut file).expect("room in memory"), PACKED_BYTES_MAX / 2_004);
    }
}
