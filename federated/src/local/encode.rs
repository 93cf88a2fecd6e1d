//! A fragment's result in the forms in which it crosses: ring words, bits, codes, text, key bytes.
//!
//! Column by column over Arrow buffers, nothing allocated per row. It must not know of shares or
//! tags: key bytes are what tags are computed from. NULL is carried as zero beside its null bit.

use crate::error::{Code, Error, Result};
use crate::plan::{Encoding, FragmentColumn};
use crate::schema::ScalarType;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use std::collections::HashMap;

/// The result of one fragment, encoded.
#[derive(Clone)]
pub struct EncodedFragment {
    /// Rows, before padding.
    pub rows: usize,
    /// One for each column of the fragment, in order.
    pub columns: Vec<EncodedColumn>,
}

/// One column in the form in which it crosses.
#[derive(Clone)]
pub struct EncodedColumn {
    /// The values; zero where NULL.
    pub values: Values,
    /// Where the column is NULL; none if nowhere.
    nulls: Option<NullBuffer>,
}

/// Values, by form.
#[derive(Clone)]
pub enum Values {
    /// Two's complement in Z_2^64.
    Ring64(Vec<u64>),
    /// Two's complement in Z_2^128.
    Ring128(Vec<u128>),
    /// `width` bits a row in `ceil(width / 64)` words, the least significant first.
    Bits {
        /// Bits a row.
        width: u32,
        /// Row after row.
        words: Vec<u64>,
    },
    /// Canonical, injective bytes of a key, of all columns of a composite key at the first of them.
    Keys(KeyBytes),
}

/// Bytes of the keys of all rows.
#[derive(Clone, Default)]
pub struct KeyBytes {
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl KeyBytes {
    /// The bytes of one row's key; empty outside the rows.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u8] {
        let start = match row {
            0 => 0,
            _ => self.ends.get(row - 1).copied().unwrap_or(0),
        };
        let end = self.ends.get(row).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

impl EncodedColumn {
    /// Whether the value of this row is NULL.
    #[must_use]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls
            .as_ref()
            .is_some_and(|nulls| row < nulls.len() && nulls.is_null(row))
    }
}

impl std::fmt::Debug for EncodedFragment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, columns) = (self.rows, self.columns.len());
        write!(f, "EncodedFragment({rows} rows, {columns} columns)")
    }
}

/// Encodes a fragment's batches as its columns say.
///
/// # Errors
/// `Internal` when the batches are not of the fragment's types; `BadSource` for a value outside its
/// code list or longer than declared; `Overflow` for a value that does not fit its form. A message
/// names the column's label, neither a value nor how many: those go to the owner's own log.
pub fn encode(batches: &[RecordBatch], columns: &[FragmentColumn]) -> Result<EncodedFragment> {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let mut arrays = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let parts: Vec<&dyn Array> = batches
            .iter()
            .map(|batch| batch.columns().get(index).map(AsRef::as_ref))
            .collect::<Option<_>>()
            .ok_or_else(|| mismatch(column))?;
        let array = match parts[..] {
            [] => arrow::array::new_empty_array(&column.data_type.to_arrow()),
            _ => concat(&parts).map_err(|_| mismatch(column))?,
        };
        if array.data_type() != &column.data_type.to_arrow() {
            return Err(mismatch(column));
        }
        arrays.push(array);
    }
    let mut encoded = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let array = &arrays[index];
        let values = match &column.encoding {
            Encoding::KeyTag { class, .. } => {
                let same = |at: usize| {
                    matches!(&columns[at].encoding,
                        Encoding::KeyTag { class: other, .. } if other == class)
                };
                if index > 0 && same(index - 1) {
                    Values::Keys(KeyBytes::default())
                } else {
                    let count = (index..columns.len()).take_while(|&at| same(at)).count();
                    Values::Keys(key_bytes(&arrays[index..index + count], rows))
                }
            }
            Encoding::UnitTag { .. } => Values::Keys(key_bytes(std::slice::from_ref(array), rows)),
            Encoding::Ring64 => Values::Ring64(
                integers(array, column)?
                    .map(|value| fit64(value, column))
                    .collect::<Result<_>>()?,
            ),
            Encoding::Ring128 => {
                Values::Ring128(integers(array, column)?.map(i128::cast_unsigned).collect())
            }
            Encoding::Bits(width) => bits(array, *width, column)?,
            Encoding::Codes(codes) => code_bits(array, codes, column)?,
            Encoding::Text { max_bytes } => text_bits(array, *max_bytes, column)?,
        };
        encoded.push(EncodedColumn {
            values,
            nulls: array
                .nulls()
                .filter(|nulls| nulls.null_count() > 0)
                .cloned(),
        });
    }
    Ok(EncodedFragment {
        rows,
        columns: encoded,
    })
}

/// The width in bits of a position in a code list.
#[must_use]
pub fn code_width(codes: usize) -> u32 {
    usize::BITS - codes.saturating_sub(1).leading_zeros().min(usize::BITS - 1)
}

fn mismatch(column: &FragmentColumn) -> Error {
    Error::new(
        Code::Internal,
        format!(
            "the fragment's result for {} is not of type {}",
            column.label, column.data_type
        ),
    )
}

/// Integers, unscaled decimals, days, microseconds, or 0 and 1; NULL as 0.
fn integers<'a>(
    array: &'a ArrayRef,
    column: &FragmentColumn,
) -> Result<Box<dyn Iterator<Item = i128> + 'a>> {
    let any: &dyn std::any::Any = array.as_any();
    if let Some(array) = any.downcast_ref::<Int64Array>() {
        return Ok(Box::new(
            array.iter().map(|value| i128::from(value.unwrap_or(0))),
        ));
    }
    if let Some(array) = any.downcast_ref::<Decimal128Array>() {
        return Ok(Box::new(array.iter().map(|value| value.unwrap_or(0))));
    }
    if let Some(array) = any.downcast_ref::<Date32Array>() {
        return Ok(Box::new(
            array.iter().map(|value| i128::from(value.unwrap_or(0))),
        ));
    }
    if let Some(array) = any.downcast_ref::<TimestampMicrosecondArray>() {
        return Ok(Box::new(
            array.iter().map(|value| i128::from(value.unwrap_or(0))),
        ));
    }
    if let Some(array) = any.downcast_ref::<BooleanArray>() {
        return Ok(Box::new(
            array.iter().map(|value| i128::from(value.unwrap_or(false))),
        ));
    }
    Err(mismatch(column))
}

fn too_wide(column: &FragmentColumn, what: &str) -> Error {
    Error::new(
        Code::Overflow,
        format!("a value of {} does not fit {what}", column.label),
    )
}

fn fit64(value: i128, column: &FragmentColumn) -> Result<u64> {
    i64::try_from(value)
        .map(i64::cast_unsigned)
        .map_err(|_| too_wide(column, "64 bits"))
}

/// Two's complement in `width` bits.
fn bits(array: &ArrayRef, width: u32, column: &FragmentColumn) -> Result<Values> {
    let mut words = Vec::with_capacity(array.len() * width.div_ceil(64) as usize);
    let is_bool = column.data_type == ScalarType::Bool;
    for value in integers(array, column)? {
        let fits = match width {
            0 => false,
            1..128 if is_bool => (0..=1).contains(&value),
            1..128 => {
                let half = 1_i128 << (width - 1);
                (-half..half).contains(&value)
            }
            128 => true,
            _ => false,
        };
        if !fits {
            return Err(too_wide(column, "the bits declared for it"));
        }
        let mask = u128::MAX >> (128 - width);
        push_words(&mut words, value.cast_unsigned() & mask, width);
    }
    Ok(Values::Bits { width, words })
}

#[allow(clippy::cast_possible_truncation)] // halves
fn push_words(words: &mut Vec<u64>, value: u128, width: u32) {
    words.push(value as u64);
    if width > 64 {
        words.push((value >> 64) as u64);
    }
}

fn strings<'a>(array: &'a ArrayRef, column: &FragmentColumn) -> Result<&'a StringArray> {
    array
        .as_any()
        .downcast_ref::<StringArray>()
        .ok_or_else(|| mismatch(column))
}

fn code_bits(array: &ArrayRef, codes: &[String], column: &FragmentColumn) -> Result<Values> {
    let width = code_width(codes.len());
    let positions: HashMap<&str, u64> = codes.iter().map(String::as_str).zip(0..).collect();
    let mut words = Vec::with_capacity(array.len());
    let mut outside = 0_u64;
    for value in strings(array, column)? {
        words.push(match value {
            None => 0,
            Some(text) => positions.get(text).copied().unwrap_or_else(|| {
                outside += 1;
                0
            }),
        });
    }
    if outside > 0 {
        // How many is for the owner alone: the error goes to the department that asks.
        tracing::warn!(rows = outside, "values outside the code list");
        return Err(Error::new(
            Code::BadSource,
            format!(
                "{} has values outside its code list in catalog.toml",
                column.label
            ),
        ));
    }
    Ok(Values::Bits { width, words })
}

/// First byte most significant, zero-padded to `max_bytes`, then one byte of length: unsigned
/// comparison is the order of bytes.
fn text_bits(array: &ArrayRef, max_bytes: u32, column: &FragmentColumn) -> Result<Values> {
    let (size, width) = (max_bytes as usize, 8 * (max_bytes + 1));
    let per_row = width.div_ceil(64) as usize;
    let mut words = vec![0_u64; array.len() * per_row];
    let mut longer = 0_u64;
    for (row, value) in strings(array, column)?.iter().enumerate() {
        let Some(text) = value else { continue };
        let bytes = text.as_bytes();
        if bytes.len() > size {
            longer += 1;
            continue;
        }
        let row = &mut words[row * per_row..(row + 1) * per_row];
        // Byte i of the text is byte (size - i) of the little-endian number; its length is byte 0.
        let mut set = |at: usize, byte: u8| row[at / 8] |= u64::from(byte) << (8 * (at % 8));
        // cannot fail: max_bytes is at most 31 in a validated plan.
        set(0, u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        for (i, byte) in bytes.iter().enumerate() {
            set(size - i, *byte);
        }
    }
    if longer > 0 {
        tracing::warn!(rows = longer, "values longer than declared");
        return Err(Error::new(
            Code::BadSource,
            format!(
                "{} has values longer than the {max_bytes} bytes declared in catalog.toml",
                column.label
            ),
        ));
    }
    Ok(Values::Bits { width, words })
}

/// Injective bytes of a key over one or more columns: per column a type tag, then a fixed-width
/// number, or a length and text. NULL is its own tag.
fn key_bytes(arrays: &[ArrayRef], rows: usize) -> KeyBytes {
    let mut keys = KeyBytes {
        ends: Vec::with_capacity(rows),
        bytes: Vec::with_capacity(rows * arrays.len() * 20),
    };
    for row in 0..rows {
        for array in arrays {
            key_column(array, row, &mut keys.bytes);
        }
        keys.ends.push(keys.bytes.len());
    }
    keys
}

fn key_column(array: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    use arrow::datatypes::{
        DataType, Date32Type, Decimal128Type, Int64Type, TimestampMicrosecondType,
    };
    if array.is_null(row) {
        out.push(0);
        return;
    }
    match array.data_type() {
        DataType::Int64 => {
            out.push(1);
            out.extend_from_slice(&array.as_primitive::<Int64Type>().value(row).to_le_bytes());
        }
        DataType::Decimal128(_, _) => {
            out.push(2);
            let value = array.as_primitive::<Decimal128Type>().value(row);
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Date32 => {
            out.push(3);
            out.extend_from_slice(&array.as_primitive::<Date32Type>().value(row).to_le_bytes());
        }
        DataType::Timestamp(..) => {
            out.push(6);
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            out.extend_from_slice(&value.to_le_bytes());
        }
        DataType::Boolean => out.extend_from_slice(&[4, u8::from(array.as_boolean().value(row))]),
        _ => {
            out.push(5);
            let text = array.as_string::<i32>().value(row).as_bytes();
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn column(data_type: ScalarType, encoding: Encoding) -> FragmentColumn {
        FragmentColumn {
            data_type,
            nullable: true,
            encoding,
            label: "x".to_owned(),
        }
    }

    fn one(array: ArrayRef, column: FragmentColumn) -> Result<EncodedFragment> {
        let batch = RecordBatch::try_from_iter_with_nullable([("c0", array, true)]).unwrap();
        encode(&[batch], &[column])
    }

    #[test]
    fn text_orders_as_bytes_do() {
        let texts = ["", "a", "a\0", "ab", "b", "ba", "é"];
        let array: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        let encoding = Encoding::Text { max_bytes: 3 };
        let encoded = one(array, column(ScalarType::Utf8, encoding)).unwrap();
        let Values::Bits { width, words } = &encoded.columns[0].values else {
            panic!("bits");
        };
        assert_eq!(*width, 32);
        assert!(words.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn code_lists_take_the_fewest_bits() {
        for (codes, width) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (4, 2),
            (5, 3),
            (16, 4),
            (17, 5),
        ] {
            assert_eq!(code_width(codes), width, "{codes} codes");
        }
    }

    #[test]
    fn composite_keys_are_injective_and_values_outside_are_refused() {
        let left: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("ab"), None]));
        let right: ArrayRef = Arc::new(StringArray::from(vec![Some("bc"), Some("c"), Some("")]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("c0", left.clone(), true),
            ("c1", right, true),
        ])
        .unwrap();
        let key = Encoding::KeyTag { class: 0, bits: 80 };
        let columns = [
            column(ScalarType::Utf8, key.clone()),
            column(ScalarType::Utf8, key),
        ];
        let encoded = encode(&[batch], &columns).unwrap();
        let Values::Keys(keys) = &encoded.columns[0].values else {
            panic!("keys");
        };
        assert_ne!(keys.row(0), keys.row(1));
        assert_ne!(keys.row(1), keys.row(2));
        assert!(encoded.columns[0].is_null(2));
        let codes = Encoding::Codes(vec!["a".to_owned()]);
        let error = one(left, column(ScalarType::Utf8, codes)).unwrap_err();
        assert_eq!(error.code, Code::BadSource);
        assert_eq!(
            error.message,
            "x has values outside its code list in catalog.toml"
        );
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let array: ArrayRef = Arc::new(
            Decimal128Array::from(vec![i128::from(i64::MAX) + 1])
                .with_precision_and_scale(38, 0)
                .unwrap(),
        );
        let decimal = ScalarType::Decimal {
            precision: 38,
            scale: 0,
        };
        let error = one(array.clone(), column(decimal, Encoding::Ring64)).unwrap_err();
        assert_eq!(error.code, Code::Overflow);
        one(array, column(decimal, Encoding::Ring128)).unwrap();
    }
}
