//! From opened words to Arrow columns of the table `released`: the inverse of the encodings.
//!
//! Knows nothing of shares. Every word comes from three gateways, so every range is checked.

use crate::error::{Code, Error, Result};
use crate::plan::program::Program;
use crate::plan::{ColumnRef, Encoding, FragmentColumn, JointPlan, Operator, ReleasedSource};
use crate::schema::ScalarType;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use std::sync::Arc;

/// One opened column, rows in the order of the released relation.
#[derive(Clone)]
pub(super) enum Words {
    /// `width` bits a row in `ceil(width / 64)` little-endian words.
    Bits { width: u32, words: Vec<u64> },
    /// Numbers modulo 2^64.
    Ring64(Vec<u64>),
    /// Numbers modulo 2^128.
    Ring128(Vec<u128>),
}

/// A value of the released relation: its words, and which rows are NULL.
pub(super) struct OpenedColumn {
    pub(super) words: Words,
    pub(super) nulls: Option<Vec<bool>>,
}

/// The released relation: group keys, then cells, valid rows alone.
pub(super) struct Opened {
    pub(super) rows: usize,
    pub(super) keys: Vec<OpenedColumn>,
    pub(super) cells: Vec<OpenedColumn>,
}

/// The columns of the table `released`, in the order of the plan.
///
/// # Errors
/// `Overflow` when a sum or an average does not fit its declared type; `PeerMisbehaved` when words
/// are outside their encoding.
pub(super) fn columns(plan: &JointPlan, opened: &Opened) -> Result<Vec<ArrayRef>> {
    if let Some(Operator::Program(program)) = plan.operators.last() {
        return program_columns(plan, program, opened);
    }
    let Some(Operator::Aggregate { keys, cells, .. }) = plan.operators.get(plan.release.input)
    else {
        return Err(internal("the release is not of an aggregate"));
    };
    let mut arrays = Vec::with_capacity(plan.release.columns.len());
    for released in &plan.release.columns {
        let array = match released.source {
            ReleasedSource::Key(index) => {
                let column = keys.get(index).and_then(|key| fragment_column(plan, *key));
                let column = column.ok_or_else(|| internal("no such group key"))?;
                let key = pick(&opened.keys, index)?;
                key_array(key, opened.rows, column.data_type, &column.encoding)?
            }
            ReleasedSource::Cell(index) => {
                let values = numbers(pick(&opened.cells, index)?)?;
                number_array(&values, released.data_type)?
            }
            ReleasedSource::Opened(_) => return Err(internal("a column of no program")),
            ReleasedSource::Average { sum, count } => {
                let sums = numbers(pick(&opened.cells, sum)?)?;
                let counts = numbers(pick(&opened.cells, count)?)?;
                let scale = cells.get(sum).and_then(|cell| cell.sum);
                let scale = scale
                    .and_then(|column| fragment_column(plan, column))
                    .map(|column| scale_of(column.data_type))
                    .ok_or_else(|| internal("an average of no sum"))?;
                average_array(&sums, &counts, scale, released.data_type)?
            }
        };
        arrays.push(array);
    }
    Ok(arrays)
}

/// The columns that a program opens.
fn program_columns(plan: &JointPlan, program: &Program, opened: &Opened) -> Result<Vec<ArrayRef>> {
    let types = program.check(&plan.fragments)?;
    let mut arrays = Vec::with_capacity(plan.release.columns.len());
    for released in &plan.release.columns {
        let ReleasedSource::Opened(index) = released.source else {
            return Err(internal("a released column of no program"));
        };
        let variable = program.opened.get(index);
        let variable = variable.ok_or_else(|| internal("a column that is not opened"))?;
        let value = types.value(*variable)?;
        let column = pick(&opened.cells, index)?;
        let array = match &value.form {
            Encoding::Codes(_) | Encoding::Text { .. } => {
                key_array(column, opened.rows, value.data_type, &value.form)?
            }
            Encoding::Bits(_) => {
                let values = key_numbers(column, opened.rows)?;
                number_array(&values, released.data_type)?
            }
            _ => number_array(&numbers(column)?, released.data_type)?,
        };
        arrays.push(array);
    }
    Ok(arrays)
}

/// Bits as signed integers; NULL where they are.
fn key_numbers(column: &OpenedColumn, rows: usize) -> Result<Vec<Option<i128>>> {
    let Words::Bits { width, words } = &column.words else {
        return Err(internal("a number that is not opened as bits"));
    };
    let per_row = width.div_ceil(64) as usize;
    if words.len() != rows * per_row {
        return Err(internal("a column of another length than its relation"));
    }
    let is_null = |row: usize| column.nulls.as_ref().is_some_and(|nulls| nulls[row]);
    Ok((0..rows)
        .map(|row| {
            let of = &words[row * per_row..(row + 1) * per_row];
            (!is_null(row)).then(|| signed(of, *width))
        })
        .collect())
}

pub(super) fn fragment_column(plan: &JointPlan, at: ColumnRef) -> Option<&FragmentColumn> {
    plan.fragments.get(at.fragment)?.columns.get(at.column)
}

fn pick(columns: &[OpenedColumn], index: usize) -> Result<&OpenedColumn> {
    columns
        .get(index)
        .ok_or_else(|| internal("a released column without a source"))
}

fn scale_of(data_type: ScalarType) -> u8 {
    match data_type {
        ScalarType::Decimal { scale, .. } => scale,
        _ => 0,
    }
}

/// A group key, as the owner's encoding says.
fn key_array(
    column: &OpenedColumn,
    rows: usize,
    data_type: ScalarType,
    encoding: &Encoding,
) -> Result<ArrayRef> {
    let Words::Bits { width, words } = &column.words else {
        return Err(internal("a group key that is not shared as bits"));
    };
    let per_row = width.div_ceil(64) as usize;
    if words.len() != rows * per_row {
        return Err(internal("a group key of another length than its relation"));
    }
    let is_null = |row: usize| column.nulls.as_ref().is_some_and(|nulls| nulls[row]);
    let row_words = |row: usize| &words[row * per_row..(row + 1) * per_row];
    match encoding {
        Encoding::Codes(codes) => {
            let mut texts: Vec<Option<&str>> = Vec::with_capacity(rows);
            for row in 0..rows {
                let code = usize::try_from(row_words(row)[0]).unwrap_or(usize::MAX);
                texts.push(match codes.get(code) {
                    _ if is_null(row) => None,
                    Some(text) => Some(text),
                    None => return Err(outside("a code outside its list")),
                });
            }
            Ok(Arc::new(StringArray::from(texts)))
        }
        Encoding::Text { max_bytes } => {
            let mut texts: Vec<Option<String>> = Vec::with_capacity(rows);
            for row in 0..rows {
                texts.push(if is_null(row) {
                    None
                } else {
                    Some(text(row_words(row), *max_bytes as usize)?)
                });
            }
            Ok(Arc::new(StringArray::from(texts)))
        }
        Encoding::Bits(bits) if bits == width => {
            let values: Vec<Option<i128>> = (0..rows)
                .map(|row| (!is_null(row)).then(|| signed(row_words(row), *width)))
                .collect();
            number_array(&values, data_type)
        }
        _ => Err(internal("a group key in an encoding that has no inverse")),
    }
}

/// Two's complement of `width` bits, or plain for a single bit.
fn signed(words: &[u64], width: u32) -> i128 {
    let low = u128::from(words[0]);
    let high = words.get(1).map_or(0, |&word| u128::from(word));
    let value = low | (high << 64);
    if width == 1 {
        return i128::from(words[0] & 1 == 1);
    }
    let unused = 128 - width.min(128);
    (value << unused).cast_signed() >> unused
}

/// UTF-8 bytes, the first most significant, then one byte of length as the least significant.
fn text(words: &[u64], max_bytes: usize) -> Result<String> {
    let byte = |index: usize| {
        // Index 0 is the least significant byte.
        words
            .get(index / 8)
            .map_or(0, |word| word.to_le_bytes()[index % 8])
    };
    let length = usize::from(byte(0));
    if length > max_bytes {
        return Err(outside("a text longer than its maximum"));
    }
    let bytes: Vec<u8> = (0..length).map(|i| byte(max_bytes - i)).collect();
    String::from_utf8(bytes).map_err(|_| outside("a text that is not UTF-8"))
}

/// Ring values as signed integers; NULL where withheld or empty.
fn numbers(column: &OpenedColumn) -> Result<Vec<Option<i128>>> {
    let values: Vec<i128> = match &column.words {
        Words::Ring64(values) => values
            .iter()
            .map(|&value| i128::from(value.cast_signed()))
            .collect(),
        Words::Ring128(values) => values.iter().map(|value| value.cast_signed()).collect(),
        Words::Bits { .. } => return Err(internal("a cell that is not arithmetic")),
    };
    Ok(match &column.nulls {
        None => values.into_iter().map(Some).collect(),
        Some(nulls) => values
            .into_iter()
            .zip(nulls)
            .map(|(value, &null)| (!null).then_some(value))
            .collect(),
    })
}

fn number_array(values: &[Option<i128>], data_type: ScalarType) -> Result<ArrayRef> {
    Ok(match data_type {
        ScalarType::Int64 => Arc::new(Int64Array::from(narrowed::<i64>(values)?)),
        ScalarType::Date => Arc::new(Date32Array::from(narrowed::<i32>(values)?)),
        ScalarType::Timestamp => {
            Arc::new(TimestampMicrosecondArray::from(narrowed::<i64>(values)?))
        }
        ScalarType::Bool => Arc::new(
            values
                .iter()
                .map(|value| value.map(|value| value != 0))
                .collect::<BooleanArray>(),
        ),
        ScalarType::Decimal { precision, scale } => decimal_array(values, precision, scale)?,
        ScalarType::Utf8 | ScalarType::Float64 => {
            return Err(internal("a number of a type that no encoding carries"));
        }
    })
}

fn narrowed<T: TryFrom<i128>>(values: &[Option<i128>]) -> Result<Vec<Option<T>>> {
    values
        .iter()
        .map(|value| value.map(|value| T::try_from(value)).transpose())
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| overflow())
}

fn decimal_array(values: &[Option<i128>], precision: u8, scale: u8) -> Result<ArrayRef> {
    let limit = 10_u128.checked_pow(u32::from(precision));
    let fits = |value: i128| limit.is_none_or(|limit| value.unsigned_abs() < limit);
    if !values.iter().flatten().all(|&value| fits(value)) {
        return Err(overflow());
    }
    let array = Decimal128Array::from(values.to_vec())
        .with_precision_and_scale(precision, scale.cast_signed())
        .map_err(|_| internal("a decimal type that Arrow does not have"))?;
    Ok(Arc::new(array))
}

/// Averages as the engine forms them: decimals by division that truncates, at the scale of the
/// result; integers as floating point.
fn average_array(
    sums: &[Option<i128>],
    counts: &[Option<i128>],
    sum_scale: u8,
    data_type: ScalarType,
) -> Result<ArrayRef> {
    let pairs = sums.iter().zip(counts);
    let pairs = pairs.map(|(&sum, &count)| sum.zip(count).filter(|&(_, count)| count != 0));
    match data_type {
        ScalarType::Float64 => Ok(Arc::new(
            pairs
                .map(|pair| {
                    // The engine too adds and divides in floating point.
                    #[allow(clippy::cast_precision_loss)]
                    pair.map(|(sum, count)| sum as f64 / count as f64)
                })
                .collect::<Float64Array>(),
        )),
        ScalarType::Decimal { precision, scale } => {
            let lift = scale
                .checked_sub(sum_scale)
                .and_then(|digits| 10_i128.checked_pow(u32::from(digits)))
                .ok_or_else(|| internal("an average of fewer digits than its sum"))?;
            let values = pairs
                .map(|pair| {
                    pair.map(|(sum, count)| {
                        let lifted = sum.checked_mul(lift).ok_or_else(overflow)?;
                        lifted.checked_div(count).ok_or_else(overflow)
                    })
                    .transpose()
                })
                .collect::<Result<Vec<_>>>()?;
            decimal_array(&values, precision, scale)
        }
        _ => Err(internal("an average of a type that no engine forms")),
    }
}

fn internal(what: &str) -> Error {
    Error::new(Code::Internal, what)
}

fn outside(what: &str) -> Error {
    Error::new(
        Code::PeerMisbehaved,
        format!("the released table holds {what}"),
    )
}

fn overflow() -> Error {
    Error::new(
        Code::Overflow,
        "a released sum or average does not fit its type",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_s_complement_of_every_width() {
        assert_eq!(signed(&[1], 1), 1);
        assert_eq!(signed(&[0xffff_ffff], 32), -1);
        assert_eq!(signed(&[0x7fff_ffff], 32), i128::from(i32::MAX));
        assert_eq!(signed(&[1 << 63], 64), i128::from(i64::MIN));
        assert_eq!(signed(&[u64::MAX, u64::MAX], 128), -1);
        assert_eq!(signed(&[0, 1 << 63], 128), i128::MIN);
    }

    #[test]
    fn text_is_read_big_endian_with_its_length_last() {
        // "ab" in at most 3 bytes: 'a' 'b' 0 then length 2.
        let word = u64::from(u32::from_be_bytes([b'a', b'b', 0, 2]));
        assert_eq!(text(&[word], 3).unwrap(), "ab");
        assert_eq!(
            text(&[u64::from(u32::from_be_bytes([0, 0, 0, 4]))], 3)
                .unwrap_err()
                .code,
            Code::PeerMisbehaved
        );
    }

    #[test]
    fn averages_truncate_towards_zero() {
        let data_type = ScalarType::Decimal {
            precision: 14,
            scale: 6,
        };
        let array = average_array(
            &[Some(-10), Some(10), None],
            &[Some(3), Some(3), Some(1)],
            2,
            data_type,
        );
        let array = array.unwrap();
        let expected = Decimal128Array::from(vec![Some(-33333), Some(33333), None])
            .with_precision_and_scale(14, 6)
            .unwrap();
        assert_eq!(array.as_ref(), &expected as &dyn arrow::array::Array);
    }

    #[test]
    fn what_does_not_fit_is_an_overflow() {
        let too_large = [Some(i128::from(i64::MAX) + 1)];
        assert_eq!(
            number_array(&too_large, ScalarType::Int64)
                .unwrap_err()
                .code,
            Code::Overflow
        );
        let data_type = ScalarType::Decimal {
            precision: 2,
            scale: 0,
        };
        assert_eq!(
            number_array(&[Some(100)], data_type).unwrap_err().code,
            Code::Overflow
        );
        assert!(number_array(&[Some(-99)], data_type).is_ok());
    }
}
