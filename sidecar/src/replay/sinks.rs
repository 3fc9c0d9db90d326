//! Files that rows are written to: CSV, JSON lines, and numpy's own format. Parquet has a file of its own.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::columns::{Column, Form, Value};
use super::tables::Table;

/// Where the rows of one table go.
pub trait Sink {
    /// Writes one row.
    fn row(&mut self, parts: &[&[u8]]) -> Result<(), String>;
    /// Writes what is left. Says how many rows there were.
    fn finish(self: Box<Self>) -> Result<u64, String>;
}

/// A new file, which must not exist yet.
pub(super) fn create(path: &Path) -> Result<BufWriter<File>, String> {
    let file = File::create_new(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

/// One line a row, separated by commas, with a header line.
pub struct Csv {
    file: BufWriter<File>,
    columns: Vec<Column>,
    rows: u64,
}

impl Csv {
    /// Writes the header line.
    pub fn create(path: &Path, table: &Table) -> Result<Self, String> {
        let mut file = create(path)?;
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        writeln!(file, "{}", names.join(",")).map_err(|error| error.to_string())?;
        Ok(Self { file, columns: table.columns.clone(), rows: 0 })
    }
}

impl Sink for Csv {
    fn row(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        let Self { file, columns, rows } = self;
        *rows += 1;
        let mut write = || {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    file.write_all(b",")?;
                }
                match column.value(parts) {
                    Value::Text(text) if text.contains([',', '"', '\n', '\r']) => write!(file, "\"{}\"", text.replace('"', "\"\""))?,
                    value => write!(file, "{value}")?,
                }
            }
            file.write_all(b"\n")
        };
        write().map_err(|error| format!("cannot write a row: {error}"))
    }

    fn finish(mut self: Box<Self>) -> Result<u64, String> {
        self.file.flush().map_err(|error| format!("cannot write the last rows: {error}"))?;
        Ok(self.rows)
    }
}

/// One JSON object a line.
pub struct JsonLines {
    file: BufWriter<File>,
    columns: Vec<Column>,
    rows: u64,
}

impl JsonLines {
    /// Begins the file.
    pub fn create(path: &Path, table: &Table) -> Result<Self, String> {
        Ok(Self { file: create(path)?, columns: table.columns.clone(), rows: 0 })
    }
}

impl Sink for JsonLines {
    fn row(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        let Self { file, columns, rows } = self;
        *rows += 1;
        let mut write = || {
            for (index, column) in columns.iter().enumerate() {
                write!(file, "{}\"{}\":", if index > 0 { ',' } else { '{' }, column.name)?;
                match column.value(parts) {
                    Value::Unsigned(number) => write!(file, "{number}")?,
                    Value::Signed(number) => write!(file, "{number}")?,
                    value => serde_json::to_writer(&mut *file, &serde_json::Value::from(value))?,
                }
            }
            file.write_all(b"}\n")
        };
        write().map_err(|error| format!("cannot write a row: {error}"))
    }

    fn finish(mut self: Box<Self>) -> Result<u64, String> {
        self.file.flush().map_err(|error| format!("cannot write the last rows: {error}"))?;
        Ok(self.rows)
    }
}

/// Bytes before the rows of a `.npy` file: room for any row count.
const NPY_HEADER_BYTES: usize = 4096;

/// A numpy structured array: the rows' own bytes behind a header.
pub struct Npy {
    file: BufWriter<File>,
    description: String,
    rows: u64,
}

impl Npy {
    /// Leaves room for the header, which names the number of rows and so comes last.
    pub fn create(path: &Path, table: &Table) -> Result<Self, String> {
        let mut file = create(path)?;
        file.write_all(&[0; NPY_HEADER_BYTES]).map_err(|error| error.to_string())?;
        Ok(Self { file, description: description(table), rows: 0 })
    }
}

/// The rows' dtype. Fields that are reserved or shown elsewhere get names that begin with an underscore.
fn description(table: &Table) -> String {
    let mut fields = Vec::new();
    for (part, schema) in table.parts.iter().enumerate() {
        for field in schema.fields {
            let column = table.columns.iter().find(|column| column.part == part && column.field == field);
            let hidden = format!("_{}", fields.len());
            let name = column.map_or(hidden.as_str(), |column| column.name);
            let text = matches!(column.map(|column| column.form), Some(Form::Text));
            let type_name = if column.is_none() || (!text && field.type_name.starts_with("|S")) {
                format!("|V{}", field.size_bytes)
            } else {
                field.type_name.to_owned()
            };
            fields.push(format!("('{name}', '{type_name}')"));
        }
    }
    format!("[{}]", fields.join(", "))
}

impl Sink for Npy {
    fn row(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        self.rows += 1;
        parts.iter().try_for_each(|part| self.file.write_all(part)).map_err(|error| format!("cannot write a row: {error}"))
    }

    fn finish(mut self: Box<Self>) -> Result<u64, String> {
        // Version 2.0: magic, version, length of the text, then the text, padded with spaces up to a line's end.
        let text = format!("{{'descr': {}, 'fortran_order': False, 'shape': ({},), }}", self.description, self.rows);
        let width = NPY_HEADER_BYTES - 12;
        if text.len() >= width {
            return Err("the table has too many columns for a .npy header".into());
        }
        let mut header = b"\x93NUMPY\x02\x00".to_vec();
        header.extend_from_slice(&(width as u32).to_le_bytes());
        header.extend_from_slice(format!("{text:<0$}\n", width - 1).as_bytes());
        let write = |file: &mut BufWriter<File>| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.flush()
        };
        write(&mut self.file).map_err(|error| format!("cannot write the header: {error}"))?;
        Ok(self.rows)
    }
}
