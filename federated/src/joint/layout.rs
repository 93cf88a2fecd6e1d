//! Which columns of each fragment enter the computation, and in which forms: read off the plan, so
//! that owners and computing parties agree without a message.

use crate::error::{Code, Error, Result};
use crate::plan::program::chunks;
use crate::plan::{ColumnRef, Encoding, Fragment, FragmentIndex, JointPlan, Operator, Predicate};
use std::collections::BTreeSet;

/// The widest column of bits that is shared.
const MAX_BITS: u32 = 256;

/// One shared form of a fragment's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    /// The value, in the encoding that the plan names. A composite key is one value, at its first
    /// column.
    Value,
    /// A Ring64 count once more in Z_2^128, for products with wide sums.
    Lifted,
    /// A part of a long text, the least significant first.
    Chunk(u16),
    /// One bit a row: whether it is NULL.
    Null,
}

/// A column in one of its forms.
pub(super) type Place = (ColumnRef, Form);

/// How a form is represented in shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// XOR shares of this many bits.
    Bits(u32),
    /// Additive shares in Z_2^64.
    Ring64,
    /// Additive shares in Z_2^128.
    Ring128,
}

/// For each fragment the forms that are shared, in order.
#[derive(Debug)]
pub(super) struct Layout {
    fragments: Vec<Vec<Place>>,
}

impl Layout {
    /// Reads the forms off the plan.
    pub(super) fn of(plan: &JointPlan) -> Result<Self> {
        let mut needed = BTreeSet::new();
        for operator in &plan.operators {
            collect(plan, operator, &mut needed)?;
        }
        let fragments = (0..plan.fragments.len())
            .map(|fragment| {
                let mine = |place: &&Place| place.0.fragment == fragment;
                needed.iter().filter(mine).copied().collect()
            })
            .collect();
        Ok(Self { fragments })
    }

    /// The forms of this fragment, in the order in which they are shared.
    pub(super) fn of_fragment(&self, fragment: FragmentIndex) -> &[Place] {
        self.fragments.get(fragment).map_or(&[], Vec::as_slice)
    }
}

/// The representation of a form.
pub(super) fn kind(plan: &JointPlan, (at, form): Place) -> Result<Kind> {
    Ok(match form {
        Form::Null => Kind::Bits(1),
        Form::Lifted => Kind::Ring128,
        Form::Chunk(part) => match encoding(plan, at)? {
            Encoding::Text { max_bytes } => {
                let widths = chunks(*max_bytes);
                let width = widths.get(usize::from(part)).copied();
                Kind::Bits(width.ok_or_else(|| {
                    Error::new(Code::Internal, "a part that a text does not have")
                })?)
            }
            _ => return Err(Error::new(Code::Internal, "a part of what is no text")),
        },
        Form::Value => match encoding(plan, at)? {
            Encoding::KeyTag { bits, .. } | Encoding::UnitTag { bits } | Encoding::Bits(bits) => {
                Kind::Bits(*bits)
            }
            Encoding::Ring64 => Kind::Ring64,
            Encoding::Ring128 => Kind::Ring128,
            Encoding::Codes(codes) => Kind::Bits(code_bits(codes.len())),
            Encoding::Text { max_bytes } if *max_bytes < MAX_BITS / 8 => {
                Kind::Bits(8 * (max_bytes + 1))
            }
            Encoding::Text { .. } => {
                return Err(Error::new(
                    Code::Unsupported,
                    "a group or comparison across departments of text of more than 31 bytes: its \
                     owner declares codes or a smaller max_bytes",
                ));
            }
        },
    })
}

/// The fewest bits, at least one, that hold the positions of a code list.
pub(super) fn code_bits(codes: usize) -> u32 {
    codes
        .saturating_sub(1)
        .checked_ilog2()
        .map_or(1, |log| log + 1)
}

/// The column's encoding.
pub(super) fn encoding(plan: &JointPlan, at: ColumnRef) -> Result<&Encoding> {
    Ok(&column(plan, at)?.encoding)
}

fn column(plan: &JointPlan, at: ColumnRef) -> Result<&crate::plan::FragmentColumn> {
    plan.fragments
        .get(at.fragment)
        .and_then(|fragment| fragment.columns.get(at.column))
        .ok_or_else(|| {
            Error::new(
                Code::Internal,
                "the plan refers to a column it does not have",
            )
        })
}

/// Whether the column has a null bit of its own. Rows whose key is NULL never enter.
pub(crate) fn has_null_bit(plan: &JointPlan, at: ColumnRef) -> Result<bool> {
    let column = column(plan, at)?;
    Ok(column.nullable && !matches!(column.encoding, Encoding::KeyTag { .. }))
}

/// The column that stands for the whole composite key, and how many columns form it.
pub(super) fn key_of(fragment: &Fragment, column: usize) -> (usize, usize) {
    let class = |index: usize| match fragment.columns.get(index).map(|c| &c.encoding) {
        Some(Encoding::KeyTag { class, .. }) => Some(*class),
        _ => None,
    };
    let Some(this) = class(column) else {
        return (column, 1);
    };
    let mut first = column;
    while first > 0 && class(first - 1) == Some(this) {
        first -= 1;
    }
    let mut end = column + 1;
    while class(end) == Some(this) {
        end += 1;
    }
    (first, end - first)
}

/// The same reference, at the first column of a composite key.
pub(super) fn normal(plan: &JointPlan, at: ColumnRef) -> ColumnRef {
    plan.fragments
        .get(at.fragment)
        .map_or(at, |fragment| ColumnRef {
            fragment: at.fragment,
            column: key_of(fragment, at.column).0,
        })
}

fn collect(plan: &JointPlan, operator: &Operator, needed: &mut BTreeSet<Place>) -> Result<()> {
    match operator {
        Operator::Input { .. } | Operator::Align { .. } => {}
        Operator::Program(_) => {
            for (fragment, of) in plan.fragments.iter().enumerate() {
                for (column, what) in of.columns.iter().enumerate() {
                    let at = ColumnRef { fragment, column };
                    match &what.encoding {
                        Encoding::Text { max_bytes } if chunks(*max_bytes).len() > 1 => {
                            let parts = chunks(*max_bytes).len();
                            needed.extend((0..parts).map(|part| {
                                (at, Form::Chunk(u16::try_from(part).unwrap_or(u16::MAX)))
                            }));
                            null(plan, at, needed)?;
                        }
                        _ => value_and_null(plan, at, needed)?,
                    }
                }
            }
        }
        Operator::Join {
            left_key,
            right_key,
            ..
        } => {
            needed.insert((normal(plan, *left_key), Form::Value));
            needed.insert((normal(plan, *right_key), Form::Value));
        }
        Operator::Filter { predicate, .. } => collect_predicate(plan, predicate, needed)?,
        Operator::Aggregate {
            keys, cells, units, ..
        } => {
            for key in keys {
                value_and_null(plan, *key, needed)?;
            }
            for cell in cells {
                let wide = match cell.sum {
                    Some(sum) => {
                        needed.insert((sum, Form::Value));
                        matches!(encoding(plan, sum)?, Encoding::Ring128)
                    }
                    None => false,
                };
                for weight in &cell.weights {
                    needed.insert((*weight, if wide { Form::Lifted } else { Form::Value }));
                }
                if let Some(argument) = cell.argument {
                    null(plan, argument, needed)?;
                }
            }
            for unit in units {
                if let Some(tag) = unit.unit {
                    single_unit(plan, tag)?;
                    value_and_null(plan, tag, needed)?;
                }
                if let Some(argument) = unit.argument {
                    null(plan, argument, needed)?;
                }
            }
        }
    }
    Ok(())
}

/// A composite key's tag is not the tag of a unit: counting it would count too many.
fn single_unit(plan: &JointPlan, tag: ColumnRef) -> Result<()> {
    let fragment = plan.fragments.get(tag.fragment);
    if fragment.is_some_and(|fragment| key_of(fragment, tag.column).1 == 1) {
        return Ok(());
    }
    Err(Error::new(
        Code::Internal,
        "the plan counts privacy units by a composite key",
    ))
}

fn collect_predicate(
    plan: &JointPlan,
    predicate: &Predicate,
    needed: &mut BTreeSet<Place>,
) -> Result<()> {
    match predicate {
        Predicate::Compare { left, right, .. } => {
            value_and_null(plan, *left, needed)?;
            value_and_null(plan, *right, needed)?;
        }
        Predicate::Flag(column) => value_and_null(plan, *column, needed)?,
        Predicate::All(parts) | Predicate::Any(parts) => {
            for part in parts {
                collect_predicate(plan, part, needed)?;
            }
        }
    }
    Ok(())
}

fn value_and_null(plan: &JointPlan, at: ColumnRef, needed: &mut BTreeSet<Place>) -> Result<()> {
    needed.insert((normal(plan, at), Form::Value));
    null(plan, at, needed)
}

fn null(plan: &JointPlan, at: ColumnRef, needed: &mut BTreeSet<Place>) -> Result<()> {
    if has_null_bit(plan, at)? {
        needed.insert((at, Form::Null));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::code_bits;

    #[test]
    fn codes_take_the_fewest_bits() {
        let widths: Vec<u32> = [0, 1, 2, 3, 4, 5, 16, 17].map(code_bits).to_vec();
        assert_eq!(widths, [1, 1, 1, 2, 2, 3, 4, 5]);
    }
}
