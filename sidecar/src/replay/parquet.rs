//! Rows as a Parquet file: one column a field, numbers with their sign and width, names as text. Snappy-compressed.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::columns::{Column, Form, Value};
use super::sinks::{Sink, create};
use super::tables::Table;

/// Rows that are held in memory before they are written as a row group.
const GROUP_ROWS: usize = 1 << 16;

/// The values of one column of a row group.
enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Text(Vec<ByteArray>),
}

/// A Parquet file.
pub struct Parquet {
    writer: SerializedFileWriter<BufWriter<File>>,
    columns: Vec<Column>,
    values: Vec<Values>,
    group_rows: usize,
    rows: u64,
}

fn say(error: ParquetError) -> String {
    format!("cannot write Parquet: {error}")
}

impl Parquet {
    /// Begins the file.
    pub fn create(path: &Path, table: &Table) -> Result<Self, String> {
        let fields = table.columns.iter().map(|column| field(column).map(Arc::new)).collect::<Result<_, _>>().map_err(say)?;
        let schema = Type::group_type_builder(&table.name).with_fields(fields).build().map_err(say)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(create(path)?, Arc::new(schema), Arc::new(properties)).map_err(say)?;
        let values = table.columns.iter().map(|column| empty(column.form)).collect();
        Ok(Self { writer, columns: table.columns.clone(), values, group_rows: 0, rows: 0 })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for values in &mut self.values {
            let Some(mut column) = group.next_column()? else { break };
            match values {
                Values::Int32(values) => column.typed::<Int32Type>().write_batch(values, None, None).map(|_| values.clear()),
                Values::Int64(values) => column.typed::<Int64Type>().write_batch(values, None, None).map(|_| values.clear()),
                Values::Float(values) => column.typed::<FloatType>().write_batch(values, None, None).map(|_| values.clear()),
                Values::Double(values) => column.typed::<DoubleType>().write_batch(values, None, None).map(|_| values.clear()),
                Values::Text(values) => column.typed::<ByteArrayType>().write_batch(values, None, None).map(|_| values.clear()),
            }?;
            column.close()?;
        }
        group.close()?;
        self.group_rows = 0;
        Ok(())
    }
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let integer = |size: usize, is_signed| {
        let physical = if size == 8 { Physical::INT64 } else { Physical::INT32 };
        (physical, Some(LogicalType::integer(8 * size as i8, is_signed)))
    };
    let (physical, logical) = match column.form {
        Form::Unsigned(size) => integer(size, false),
        Form::Signed(size) => integer(size, true),
        Form::Float(4) => (Physical::FLOAT, None),
        Form::Float(_) => (Physical::DOUBLE, None),
        Form::Name(_) | Form::Text | Form::Bytes => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    Type::primitive_type_builder(column.name, physical).with_logical_type(logical).with_repetition(Repetition::REQUIRED).build()
}

fn empty(form: Form) -> Values {
    match form {
        Form::Unsigned(8) | Form::Signed(8) => Values::Int64(Vec::new()),
        Form::Unsigned(_) | Form::Signed(_) => Values::Int32(Vec::new()),
        Form::Float(4) => Values::Float(Vec::new()),
        Form::Float(_) => Values::Double(Vec::new()),
        Form::Name(_) | Form::Text | Form::Bytes => Values::Text(Vec::new()),
    }
}

impl Sink for Parquet {
    fn row(&mut self, parts: &[&[u8]]) -> Result<(), String> {
        for (column, values) in self.columns.iter().zip(&mut self.values) {
            match (column.value(parts), values) {
                // Parquet keeps the bits of an unsigned number and says beside it that it is one.
                (Value::Unsigned(number), Values::Int64(values)) => values.push(number.cast_signed()),
                (Value::Signed(number), Values::Int64(values)) => values.push(number),
                (Value::Unsigned(number), Values::Int32(values)) => values.push((number as u32).cast_signed()),
                (Value::Signed(number), Values::Int32(values)) => values.push(number as i32),
                (Value::Float(number), Values::Float(values)) => values.push(number as f32),
                (Value::Float(number), Values::Double(values)) => values.push(number),
                (Value::Name(name), Values::Text(values)) => values.push(ByteArray::from(name)),
                (value, Values::Text(values)) => values.push(ByteArray::from(value.to_string().as_str())),
                (value, _) => unreachable!("column {} cannot hold {value:?}", column.name),
            }
        }
        self.rows += 1;
        self.group_rows += 1;
        if self.group_rows == GROUP_ROWS { self.write_group().map_err(say) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<u64, String> {
        self.write_group().map_err(say)?;
        self.writer.close().map_err(say)?;
        Ok(self.rows)
    }
}
