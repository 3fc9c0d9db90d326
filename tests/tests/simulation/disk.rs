//! The simulated disk: what of the journal's files and names is durable, and what a machine's end leaves of the rest. The files
//! themselves are what the page cache holds: the end of the process alone loses nothing of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use ringlane_tests::order_flow::Random;

use super::flow::{one_in, within};

/// What is written as a whole or not at all, mostly.
const SECTOR_BYTES: usize = 512;

/// A file, by its inode.
struct Image {
    /// Held open, so that the inode is nobody else's.
    file: File,
    /// What the machine believes to be on the disk.
    believed: Vec<u8>,
    /// What is on the disk.
    durable: Vec<u8>,
}

/// The durable part of a journal directory.
#[derive(Default)]
pub struct Disk {
    images: HashMap<u64, Image>,
    /// Durable names.
    names: BTreeMap<String, u64>,
}

fn content(file: &File) -> Vec<u8> {
    let len = file.metadata().expect("the file is open").len() as usize;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("nobody cuts files off meanwhile");
    bytes
}

impl Image {
    fn new(file: File) -> Self {
        // Its blocks are reserved, and nothing was written to them.
        let len = file.metadata().expect("the file is open").len() as usize;
        Self { file, believed: vec![0; len], durable: vec![0; len] }
    }

    /// Brings what is believed and what is durable to this length.
    fn resize(&mut self, len: usize) {
        self.believed.resize(len, 0);
        self.durable.resize(len, 0);
    }
}

/// The sidecar died while it wrote a frame through memory: of the words of that frame only the first are there. `place` says
/// how far it was.
pub fn tear(path: &Path, before: &[u8], place: &str, random: &mut Random) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return };
    let mut now = content(&file);
    let Some(first) = now.iter().zip(before).position(|(new, old)| new != old) else { return };
    let last = now.iter().zip(before).rposition(|(new, old)| new != old).unwrap_or(first);
    let (from, to) = match place {
        // The payload is being written.
        "frame.filled" => (within(random, first as u64, last as u64) as usize, last + 1),
        // The header, which comes last.
        _ => ((first & !63) + random.below(64) as usize, (first & !63) + 64),
    };
    now[from..to].copy_from_slice(&before[from..to]);
    file.write_all_at(&now[from..to], from as u64).expect("it is there");
}

/// The sectors of a file.
fn sectors(bytes: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let len = bytes.len();
    (0..len).step_by(SECTOR_BYTES).map(move |at| at..(at + SECTOR_BYTES).min(len))
}

impl Disk {
    /// A disk that holds the files of a directory, all durable.
    pub fn of(directory: &Path) -> Self {
        let mut disk = Self::default();
        disk.sync_names(directory);
        for image in disk.images.values_mut() {
            let bytes = content(&image.file);
            (image.believed, image.durable) = (bytes.clone(), bytes);
        }
        disk
    }

    fn image(&mut self, file: &File) -> &mut Image {
        let inode = file.metadata().expect("the file is open").ino();
        self.images.entry(inode).or_insert_with(|| {
            let again = OpenOptions::new().read(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            Image::new(again.expect("an open file can be opened again"))
        })
    }

    /// A file is made durable.
    pub fn sync(&mut self, file: &File) {
        let image = self.image(file);
        let now = content(&image.file);
        image.resize(now.len());
        for sector in sectors(&now) {
            // What the machine believes to be there it does not write again.
            if now[sector.clone()] != image.believed[sector.clone()] {
                image.durable[sector.clone()].copy_from_slice(&now[sector]);
            }
        }
        image.believed = now;
    }

    /// The disk fails under it: some of what was written is there, and the machine takes all of it for written.
    pub fn fail(&mut self, file: &File, random: &mut Random) {
        let image = self.image(file);
        let now = content(&image.file);
        image.resize(now.len());
        for sector in sectors(&now) {
            if now[sector.clone()] != image.believed[sector.clone()] && one_in(random, 2) {
                image.durable[sector.clone()].copy_from_slice(&now[sector]);
            }
        }
        image.believed = now;
    }

    /// Bytes were written that stood there already: the machine no longer takes them for written.
    pub fn doubt(&mut self, file: &File, bytes: std::ops::Range<usize>) {
        let image = self.image(file);
        let now = content(&image.file);
        image.resize(now.len());
        for sector in sectors(&now).filter(|sector| sector.start < bytes.end && bytes.start < sector.end) {
            // Whatever is on the disk, it is not what the machine has.
            image.believed[sector.clone()].copy_from_slice(&image.durable[sector]);
        }
    }

    fn listed(directory: &Path) -> BTreeMap<String, File> {
        let entries = std::fs::read_dir(directory).expect("the directory is there").flatten();
        let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
        named.filter(|(name, _)| name != "lock").map(|(name, path)| (name, File::open(path).expect("it is there"))).collect()
    }

    /// The names of the directory are made durable.
    pub fn sync_names(&mut self, directory: &Path) {
        self.names.clear();
        for (name, file) in Self::listed(directory) {
            let inode = file.metadata().expect("the file is open").ino();
            self.image(&file);
            self.names.insert(name, inode);
        }
        // What has no name any more is gone with its next name.
        let names = &self.names;
        self.images
            .retain(|inode, image| names.values().any(|named| named == inode) || image.file.metadata().is_ok_and(|it| it.nlink() > 0));
    }

    /// Some of what was written goes to the disk by itself.
    pub fn write_back(&mut self, random: &mut Random) {
        let mut inodes: Vec<u64> = self.names.values().copied().collect();
        inodes.dedup();
        for inode in inodes {
            let Some(image) = self.images.get_mut(&inode) else { continue };
            let now = content(&image.file);
            image.resize(now.len());
            for sector in sectors(&now) {
                if now[sector.clone()] != image.believed[sector.clone()] && one_in(random, 3) {
                    image.durable[sector.clone()].copy_from_slice(&now[sector.clone()]);
                    image.believed[sector.clone()].copy_from_slice(&now[sector]);
                }
            }
        }
    }

    /// The machine ends: writes what is left into another directory. Of what was not durable any sector may be there or not,
    /// in any order, and now and then one is torn; names that were not durable are all there or all not.
    pub fn crash(mut self, from: &Path, to: &Path, random: &mut Random) {
        std::fs::create_dir_all(to).expect("a directory can be made");
        if one_in(random, 2) {
            self.sync_names(from);
        }
        // Of each hundred sectors that wait so many are there.
        let there = [0, 10, 50, 90, 100][random.below(5) as usize];
        for (name, inode) in &self.names {
            let Some(Image { file, believed, durable }) = self.images.get(inode) else { continue };
            let now = content(file);
            let len = if one_in(random, 2) { now.len() } else { durable.len() };
            let mut left = durable.clone();
            left.resize(len, 0);
            for sector in sectors(&left.clone()) {
                let (Some(new), Some(old)) = (now.get(sector.clone()), believed.get(sector.clone())) else { continue };
                if new == old {
                    continue;
                }
                let torn = if one_in(random, 20) { within(random, 0, new.len() as u64) as usize } else { new.len() };
                if random.below(100) < there {
                    left[sector.start..sector.start + torn].copy_from_slice(&new[..torn]);
                }
            }
            std::fs::write(to.join(name), left).expect("there is room");
        }
    }
}
