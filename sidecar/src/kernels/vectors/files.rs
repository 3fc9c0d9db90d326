//! Vector files, read in portions from any `Read`: .npy (versions 1 to 3, little-endian float32 or int8, C order, two
//! dimensions) and .fvecs. A file is an allegation: every size is checked before memory is had, and what is wrong is said.

use std::fmt;
use std::io::{self, Read};

use ringlane_layout::limits::{CORPUS_ROWS_MAX, NPY_HEADER_BYTES_MAX, VECTOR_COMPONENTS_MAX};

/// How a file is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileFormat {
    /// numpy's own.
    Npy,
    /// Each vector behind its dimension as a little-endian i32.
    Fvecs,
}

impl FileFormat {
    /// By the ending of the name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "npy" => Some(Self::Npy),
            "fvecs" => Some(Self::Fvecs),
            _ => None,
        }
    }
}

/// Why a file could not be read: a sentence.
#[derive(Debug)]
pub struct VectorFileError(String);

impl fmt::Display for VectorFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for VectorFileError {}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, VectorFileError> {
    Err(VectorFileError(sentence.into()))
}

fn fill(source: &mut impl Read, bytes: &mut [u8], what: &str) -> Result<(), VectorFileError> {
    source.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            VectorFileError(format!("the file ends within {what}; it is cut off or was changed while it was read"))
        }
        _ => VectorFileError(format!("{what} could not be read: {error}")),
    })
}

/// Components of a stored row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Component {
    Float32,
    Int8,
    /// Float32 behind the row's dimension.
    Fvecs,
}

/// A file whose header was read and fits its length.
pub struct VectorFile<R> {
    source: R,
    component: Component,
    dim: usize,
    rows: usize,
    rows_read: usize,
    bytes: Vec<u8>,
}

impl<R: Read> VectorFile<R> {
    /// Reads the header. `length_bytes` is the length of the whole file, which must be exactly what the header calls for.
    pub fn open(mut source: R, format: FileFormat, length_bytes: u64) -> Result<Self, VectorFileError> {
        let (component, dim, rows, header_bytes) = match format {
            FileFormat::Npy => npy_header(&mut source)?,
            FileFormat::Fvecs => fvecs_header(&mut source, length_bytes)?,
        };
        if dim == 0 || dim > VECTOR_COMPONENTS_MAX {
            return refuse(format!("vectors have {dim} components; 1 to {VECTOR_COMPONENTS_MAX} are possible"));
        }
        if rows > CORPUS_ROWS_MAX {
            return refuse(format!("the file has {rows} vectors; at most {CORPUS_ROWS_MAX} are possible"));
        }
        // Neither product overflows: both factors were bounded.
        let data_bytes = rows as u64 * row_bytes(component, dim) as u64;
        if header_bytes + data_bytes != length_bytes {
            return refuse(format!("{rows} vectors of {dim} need {} bytes; the file has {length_bytes}", header_bytes + data_bytes));
        }
        let mut file = Self { source, component, dim, rows, rows_read: 0, bytes: vec![0; row_bytes(component, dim)] };
        if component == Component::Fvecs {
            // The first row's dimension was read with the header.
            file.bytes[..4].copy_from_slice(&(dim as u32).to_le_bytes());
        }
        Ok(file)
    }

    /// Components of each vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Vectors in the file.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Reads the next vectors, as float32, into as many whole rows of `values` as it holds; gives how many. 0 at the end.
    pub fn read(&mut self, values: &mut [f32]) -> Result<usize, VectorFileError> {
        let wanted = (values.len() / self.dim).min(self.rows - self.rows_read);
        for row in values.chunks_exact_mut(self.dim).take(wanted) {
            // The first dimension of a .fvecs file came with its header.
            let skip = if self.component == Component::Fvecs && self.rows_read == 0 { 4 } else { 0 };
            fill(&mut self.source, &mut self.bytes[skip..], "its vectors")?;
            let data = match self.component {
                Component::Fvecs => {
                    let dim = u32::from_le_bytes([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]]);
                    if dim as usize != self.dim {
                        return refuse(format!(
                            "vector {} has {dim} components, vector 0 has {}; all must have the same",
                            self.rows_read, self.dim
                        ));
                    }
                    &self.bytes[4..]
                }
                Component::Float32 | Component::Int8 => &self.bytes[..],
            };
            match self.component {
                Component::Int8 => row.iter_mut().zip(data).for_each(|(x, byte)| *x = f32::from(byte.cast_signed())),
                _ => row.iter_mut().zip(data.as_chunks::<4>().0).for_each(|(x, bytes)| *x = f32::from_le_bytes(*bytes)),
            }
            self.rows_read += 1;
        }
        Ok(wanted)
    }
}

fn row_bytes(component: Component, dim: usize) -> usize {
    match component {
        Component::Float32 => 4 * dim,
        Component::Int8 => dim,
        Component::Fvecs => 4 + 4 * dim,
    }
}

type Header = (Component, usize, usize, u64);

fn fvecs_header(source: &mut impl Read, length_bytes: u64) -> Result<Header, VectorFileError> {
    let mut first = [0; 4];
    fill(source, &mut first, "the first dimension")?;
    let dim = i32::from_le_bytes(first);
    if !(1..=VECTOR_COMPONENTS_MAX as i64).contains(&i64::from(dim)) {
        return refuse(format!(
            "the first vector claims {dim} components; 1 to {VECTOR_COMPONENTS_MAX} are possible: is it a .fvecs file?"
        ));
    }
    let row = row_bytes(Component::Fvecs, dim as usize) as u64;
    if !length_bytes.is_multiple_of(row) {
        return refuse(format!("the file has {length_bytes} bytes, which is no multiple of {row}, the size of one vector of {dim}"));
    }
    let rows = usize::try_from(length_bytes / row).unwrap_or(usize::MAX);
    // Nothing stands before the rows.
    Ok((Component::Fvecs, dim as usize, rows, 0))
}

fn npy_header(source: &mut impl Read) -> Result<Header, VectorFileError> {
    let (text, header_bytes) = npy_text(source)?;
    let (descr, shape) = Literal(&text).dictionary()?;
    let component = match descr {
        "<f4" => Component::Float32,
        "|i1" | "<i1" => Component::Int8,
        other => {
            return refuse(format!(
                "the array's type is {other:?}; float32 ('<f4') and int8 ('|i1') can be read: save array.astype('<f4')"
            ));
        }
    };
    match shape[..] {
        [rows, dim] => Ok((component, dim, rows, header_bytes)),
        _ => refuse("the array does not have two dimensions: save one of shape (vectors, components)"),
    }
}

/// Reads the ids of `rows` rows from a .npy file: one dimension, or one column, of int64 or uint64, in C order. Nothing beyond
/// what so many ids need is read.
pub fn read_ids(mut source: impl Read, rows: usize) -> Result<Vec<u64>, VectorFileError> {
    let (text, _) = npy_text(&mut source)?;
    let (descr, shape) = Literal(&text).dictionary()?;
    if !matches!(descr, "<i8" | "<u8") {
        return refuse(format!("ids are int64 ('<i8') or uint64 ('<u8'), not {descr:?}: save ids.astype('<u8')"));
    }
    match shape[..] {
        [ids] | [ids, 1] if ids == rows => {}
        [ids] | [ids, 1] => return refuse(format!("{ids} ids for {rows} rows; give one id a row, or none")),
        _ => return refuse("ids have one dimension: save an array of shape (rows,)"),
    }
    let no_memory = |_| VectorFileError(format!("{} bytes of memory could not be had for the ids", 8 * rows));
    let mut ids = Vec::new();
    ids.try_reserve_exact(rows).map_err(no_memory)?;
    let mut bytes = [0; 8];
    for _ in 0..rows {
        fill(&mut source, &mut bytes, "its ids")?;
        ids.push(u64::from_le_bytes(bytes));
    }
    Ok(ids)
}

/// The dictionary of a .npy file, as text, and how many bytes stand before its data.
fn npy_text(source: &mut impl Read) -> Result<(String, u64), VectorFileError> {
    let mut start = [0; 8];
    fill(source, &mut start, "the .npy header")?;
    if start[..6] != *b"\x93NUMPY" {
        return refuse("the file does not begin as a .npy file does; write it with numpy.save");
    }
    let length_bytes: usize = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return refuse(format!("the .npy file has version {version}; 1, 2 and 3 can be read")),
    };
    let mut length = [0; 4];
    fill(source, &mut length[..length_bytes], "the .npy header")?;
    let length = u32::from_le_bytes(length) as usize;
    if length > NPY_HEADER_BYTES_MAX {
        return refuse(format!("the .npy header claims {length} bytes; at most {NPY_HEADER_BYTES_MAX} are read"));
    }
    let mut text = vec![0; length];
    fill(source, &mut text, "the .npy header")?;
    match String::from_utf8(text) {
        Ok(text) => Ok((text, (8 + length_bytes + length) as u64)),
        Err(_) => refuse("the .npy header is no text"),
    }
}

/// The Python dictionary of a .npy header, as numpy writes it, read from the left.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    /// Type and shape.
    fn dictionary(mut self) -> Result<(&'a str, Vec<usize>), VectorFileError> {
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.takes('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => descr = Some(self.descr()?),
                "fortran_order" => fortran = Some(self.boolean()?),
                "shape" => shape = Some(self.shape()?),
                _ => return refuse(format!("the .npy header has an unknown entry {key:?}")),
            }
            if !self.takes(',') {
                self.expect('}')?;
                break;
            }
        }
        if !self.0.trim().is_empty() {
            return refuse("the .npy header goes on behind its dictionary");
        }
        match (descr, fortran, shape) {
            (_, Some(true), _) => refuse("the array is in Fortran order; save numpy.ascontiguousarray(array)"),
            (Some(descr), Some(false), Some(shape)) => Ok((descr, shape)),
            _ => refuse("the .npy header lacks descr, fortran_order or shape"),
        }
    }

    fn takes(&mut self, wanted: char) -> bool {
        self.0 = self.0.trim_start();
        self.0.strip_prefix(wanted).map(|rest| self.0 = rest).is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), VectorFileError> {
        if self.takes(wanted) { Ok(()) } else { refuse(format!("the .npy header is malformed: {wanted:?} is missing")) }
    }

    fn string(&mut self) -> Result<&'a str, VectorFileError> {
        let quote = if self.takes('"') { '"' } else { self.expect('\'').map(|()| '\'')? };
        match self.0.split_once(quote) {
            Some((text, rest)) => {
                self.0 = rest;
                Ok(text)
            }
            None => refuse("the .npy header is malformed: a string does not end"),
        }
    }

    fn boolean(&mut self) -> Result<bool, VectorFileError> {
        self.0 = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        refuse("the .npy header is malformed: fortran_order is neither True nor False")
    }

    fn descr(&mut self) -> Result<&'a str, VectorFileError> {
        self.0 = self.0.trim_start();
        if self.0.starts_with('[') {
            return refuse("the array has fields; save a plain one");
        }
        self.string()
    }

    fn shape(&mut self) -> Result<Vec<usize>, VectorFileError> {
        self.expect('(')?;
        let mut sizes = Vec::with_capacity(2);
        while !self.takes(')') {
            self.0 = self.0.trim_start();
            let digits = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let Ok(size) = self.0[..digits].parse::<u32>() else {
                return refuse("the .npy header is malformed: a size in its shape is no number, or too large");
            };
            self.0 = &self.0[digits..];
            sizes.push(size as usize);
            if !self.takes(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(sizes)
    }
}
