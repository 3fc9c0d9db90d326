//! What a segment's first page says: its header and its reserve, and what is made of it when one of them is not whole.

use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::reader::WAY_OUT;
use super::search::{Found, search};
use super::{
    FORMAT_VERSION, FRAMES_OFFSET, FrameKind, RESERVE_MAGIC, RESERVE_OFFSET, SEGMENT_MAGIC, SegmentHeader, SegmentReserve, reserve_crc,
    schema_hash, segment_crc,
};

/// What a segment's first page says.
pub enum FirstPage {
    /// A segment that was begun.
    Header(Box<SegmentHeader>),
    /// Made ahead of need and never used; a later start goes on behind it.
    Unused,
    /// Its writer was killed before the header was whole.
    Torn,
}

/// A first page, taken apart.
struct Page {
    header: SegmentHeader,
    /// None where there are zeros, as format 1 had.
    reserve: Option<SegmentReserve>,
    header_is_zero: bool,
    reserve_is_zero: bool,
    /// Whether everything else is zero.
    rest_is_zero: bool,
}

impl Page {
    fn of(page: &[u8; FRAMES_OFFSET]) -> Self {
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let (head, rest) = page.split_at(size_of::<SegmentHeader>());
        let (between, rest) = rest.split_at(RESERVE_OFFSET - head.len());
        let (reserve, rest) = rest.split_at(size_of::<SegmentReserve>());
        let found: SegmentReserve = bytemuck::pod_read_unaligned(reserve);
        let whole = found.magic == RESERVE_MAGIC && reserve_crc(&found) == found.crc32c;
        Self {
            header: bytemuck::pod_read_unaligned(head),
            reserve: whole.then_some(found),
            header_is_zero: is_zero(head),
            reserve_is_zero: is_zero(reserve),
            rest_is_zero: is_zero(between) && is_zero(rest),
        }
    }

    fn header_is_whole(&self) -> bool {
        self.header.magic == SEGMENT_MAGIC && segment_crc(&self.header) == self.header.crc32c
    }

    /// What is wrong with it; none when it is a whole header of this build's.
    fn wrong(&self) -> Option<String> {
        let header = &self.header;
        let version = header.format_version.max(self.reserve.as_ref().map_or(0, |reserve| reserve.format_version));
        let fits = match &self.reserve {
            Some(reserve) => reserve.index == header.index && reserve.frame_seed == header.frame_seed,
            None => header.format_version == 1 && self.reserve_is_zero,
        };
        if header.magic != SEGMENT_MAGIC {
            Some("its first bytes are not those of a Ringlane journal".to_owned())
        } else if !(1..=FORMAT_VERSION).contains(&version) {
            Some(format!("its format is version {version}, and this build reads 1 to {FORMAT_VERSION}; use the ringlane that wrote it"))
        } else if !self.header_is_whole() || !self.rest_is_zero || !fits {
            Some(format!("its first page is damaged; {WAY_OUT}"))
        } else if Some(header.request_schema_hash) != schema_hash(FrameKind::Orders) {
            Some("its order requests have another schema than this build's; read it with the ringlane that wrote it".into())
        } else {
            None
        }
    }
}

/// Reads and checks a segment's first page.
pub fn first_page(file: &File, path: &Path) -> Result<FirstPage, String> {
    let say = |words: &dyn std::fmt::Display| format!("{} is not a recording: {words}", path.display());
    loop {
        let mut bytes = [0; FRAMES_OFFSET];
        file.read_exact_at(&mut bytes, 0).map_err(|_| say(&"it is shorter than a segment's first page"))?;
        let page = Page::of(&bytes);
        let Some(wrong) = page.wrong() else { return Ok(FirstPage::Header(Box::new(page.header))) };
        // Whether frames of this segment stand behind it: then it was begun, and its header is damaged.
        let found = match &page.reserve {
            Some(reserve) => match search(file, FRAMES_OFFSET as u64, reserve.frame_seed, 0) {
                Ok(Found::Frame(_)) => Ok(Found::Bytes),
                // What stands behind it is of another life of a recycled file.
                Ok(_) => Ok(Found::Nothing),
                Err(error) => Err(error),
            },
            None => search(file, FRAMES_OFFSET as u64, 0, u64::MAX),
        };
        let found = found.map_err(|error| say(&error))?;
        let mut now = [0; FRAMES_OFFSET];
        file.read_exact_at(&mut now, 0).map_err(|error| say(&error))?;
        if now != bytes {
            // A sidecar has begun this segment meanwhile.
            continue;
        }
        let reserve_fits = page.reserve.is_some() || page.reserve_is_zero;
        let was_ready = page.rest_is_zero && reserve_fits;
        return match found {
            Found::Nothing if was_ready && page.header_is_zero => Ok(FirstPage::Unused),
            Found::Nothing if was_ready && !page.header_is_whole() => Ok(FirstPage::Torn),
            _ if page.header_is_zero => Err(say(&format!("its first page is zeros, and other bytes follow; {WAY_OUT}"))),
            _ => Err(say(&wrong)),
        };
    }
}

/// Whether a file still is the segment of this header: a sidecar uses the oldest files again.
pub fn is_still(file: &File, header: &SegmentHeader) -> Result<bool, Error> {
    let mut bytes = [0; size_of::<SegmentHeader>()];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes == bytemuck::bytes_of(header))
}
