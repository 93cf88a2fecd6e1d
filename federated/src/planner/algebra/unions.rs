//! Unions: what is computed and asked for above one is computed and asked for in each of its inputs, so
//! that their owners do it.

use super::columns::{ColumnId, Columns, Info, substitute, used};
use super::{Block, Rel, localise};
use crate::error::{Code, Error, Result};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use std::collections::{BTreeMap, BTreeSet};

/// Inputs of a union, and which of its columns each of the union's is.
type Inputs = Vec<(Rel, Vec<ColumnId>)>;

/// What is known of a column of a union: as much as of the same one in every input.
pub(super) fn merged(
    (data_type, nullable, name): (DataType, bool, String),
    inputs: &[&Info],
) -> Info {
    let mut info = Info::new(data_type, nullable, name);
    let most: Option<Vec<u128>> = inputs.iter().map(|of| of.most).collect();
    info.most = most.and_then(|of| of.into_iter().max());
    let bytes: Option<Vec<u32>> = inputs.iter().map(|of| of.bytes).collect();
    info.bytes = bytes.and_then(|of| of.into_iter().max());
    if let [first, rest @ ..] = inputs {
        let same = |other: &&Info| other.codes == first.codes;
        if rest.iter().all(same) {
            info.codes.clone_from(&first.codes);
            // Values of one list are no more than it has.
            if !first.codes.is_empty() {
                info.distinct = Some(first.codes.len() as u64);
            }
        }
        if rest.iter().all(|other| other.canonical == first.canonical) {
            info.canonical.clone_from(&first.canonical);
        }
    }
    info
}

/// How columns of a union are named in one input.
///
/// # Errors
/// `Internal` for a column that does not exist.
pub(super) fn names(
    above: &[ColumnId],
    of: &[ColumnId],
    columns: &Columns,
) -> Result<BTreeMap<ColumnId, Expr>> {
    let pairs = above.iter().zip(of);
    pairs
        .map(|(above, below)| {
            if *below != ColumnId::NOTHING {
                return Ok((*above, below.expr()));
            }
            let null = ScalarValue::try_from(&columns.info(*above)?.data_type);
            let null = null.map_err(|_| Error::new(Code::Internal, "a NULL of no type"))?;
            Ok((*above, Expr::Literal(null, None)))
        })
        .collect()
}

/// Moves computed columns and conditions of a block into the unions among its inputs. Says whether
/// anything moved.
pub(super) fn into_unions(block: &mut Block, columns: &mut Columns) -> Result<bool> {
    let mut moved = false;
    let home = |block: &Block, looks: &BTreeSet<ColumnId>| {
        let union = |input: &Rel| {
            matches!(input, Rel::Union { .. }) && input.owner().is_none() && input.has(looks)
        };
        match looks.is_empty() {
            true => None,
            false => block.inputs.iter().position(union),
        }
    };
    for (id, expr) in std::mem::take(&mut block.computed) {
        match home(block, &used(&expr)) {
            Some(at) => {
                let union = std::mem::replace(&mut block.inputs[at], Rel::Block(Block::default()));
                block.inputs[at] = computing(union, vec![(id, expr)], columns)?;
                moved = true;
            }
            None => block.computed.push((id, expr)),
        }
    }
    for condition in std::mem::take(&mut block.conditions) {
        match home(block, &used(&condition)) {
            Some(at) => {
                if let Rel::Union {
                    inputs,
                    columns: of,
                } = &mut block.inputs[at]
                {
                    filter(inputs, of, &condition, columns)?;
                }
                moved = true;
            }
            None => block.conditions.push(condition),
        }
    }
    Ok(moved)
}

/// The relation with these columns computed on top, in each of its inputs if it is a union.
pub(super) fn computing(
    rel: Rel,
    computed: Vec<(ColumnId, Expr)>,
    columns: &mut Columns,
) -> Result<Rel> {
    if rel.owner().is_some() {
        return Ok(rel.computing(computed));
    }
    match rel {
        Rel::Union {
            inputs,
            columns: mut of,
        } => {
            let mut all: Inputs = Vec::with_capacity(inputs.len());
            for (input, mut own) in inputs {
                let mut by = names(&of, &own, columns)?;
                let mut below = Vec::with_capacity(computed.len());
                for (id, expr) in &computed {
                    let expr = substitute(expr, &by)?;
                    let made = columns.compute(&expr)?;
                    by.insert(*id, made.expr());
                    below.push((made, expr));
                    own.push(made);
                }
                all.push((localise(input.computing(below), columns)?, own));
            }
            of.extend(computed.iter().map(|(id, _)| *id));
            Ok(Rel::Union {
                inputs: all,
                columns: of,
            })
        }
        other => Ok(other.computing(computed)),
    }
}

fn filter(
    inputs: &mut Inputs,
    above: &[ColumnId],
    condition: &Expr,
    columns: &mut Columns,
) -> Result<()> {
    for (input, own) in inputs {
        let condition = substitute(condition, &names(above, own, columns)?)?;
        let before = std::mem::replace(input, Rel::Block(Block::default()));
        *input = localise(before.filtered(vec![condition]), columns)?;
    }
    Ok(())
}
