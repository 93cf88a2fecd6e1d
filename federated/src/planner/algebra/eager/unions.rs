//! Partial aggregates below unions: every input groups its rows alone, and what is above adds up what
//! the inputs made, as it does with partial sums of a join's sides.

use super::super::columns::{ColumnId, Columns, substitute};
use super::super::unions::names;
use super::super::{Aggregate, Rel};
use super::single_rows;
use crate::error::Result;
use std::collections::BTreeSet;

/// Whether an owner among the inputs of a union has fewer groups than rows.
pub(super) fn groups(rel: &Rel, keys: &BTreeSet<ColumnId>) -> bool {
    let Rel::Union { inputs, columns } = rel else {
        return false;
    };
    inputs.iter().any(|(input, own)| {
        input.owner().is_some() && !input.unique_on(&there(below(keys, columns, own)))
    })
}

/// Those that an input has.
fn there(columns: impl Iterator<Item = ColumnId>) -> BTreeSet<ColumnId> {
    columns.filter(|id| *id != ColumnId::NOTHING).collect()
}

/// The keys as one input calls them.
fn below<'a>(
    keys: &'a BTreeSet<ColumnId>,
    columns: &'a [ColumnId],
    own: &'a [ColumnId],
) -> impl Iterator<Item = ColumnId> + 'a {
    let pairs = columns.iter().zip(own);
    pairs
        .filter(|(above, _)| keys.contains(above))
        .map(|(_, below)| *below)
}

/// The union of its inputs' groups by `keys` with partial aggregates. An input that nobody owns alone, or
/// that has a row for each group, gives its rows as groups of one each.
pub(super) fn grouped(
    rel: Rel,
    keys: &BTreeSet<ColumnId>,
    partial: &[Aggregate],
    columns: &mut Columns,
) -> Result<Rel> {
    let joint = rel.owner().is_none();
    let (inputs, of) = match rel {
        Rel::Union { inputs, columns } if joint => (inputs, columns),
        other => {
            return Ok(Rel::Group {
                input: Box::new(other),
                keys: keys.iter().copied().collect(),
                aggregates: partial.to_vec(),
            });
        }
    };
    let kept: Vec<ColumnId> = of.iter().copied().filter(|id| keys.contains(id)).collect();
    let mut all = Vec::with_capacity(inputs.len());
    for (input, own) in inputs {
        let by = names(&of, &own, columns)?;
        let mut made = Vec::with_capacity(partial.len());
        let mut shown: Vec<ColumnId> = below(keys, &of, &own).collect();
        let set = there(shown.iter().copied());
        for aggregate in partial {
            // Units of another input: NULL by nobody's word.
            let of_others = aggregate.argument.as_ref().and_then(ColumnId::of_expr);
            let place = of_others.and_then(|id| of.iter().position(|known| *known == id));
            if place.is_some_and(|at| own[at] == ColumnId::NOTHING) {
                shown.push(ColumnId::NOTHING);
                continue;
            }
            let argument = match &aggregate.argument {
                Some(argument) => Some(substitute(argument, &by)?),
                None => None,
            };
            let info = columns.info(aggregate.id)?.clone();
            let id = columns.add(info);
            shown.push(id);
            made.push(Aggregate {
                id,
                function: aggregate.function,
                argument,
            });
        }
        let alone = input.owner().is_some() && !input.unique_on(&set);
        all.push(match alone {
            true => {
                let group = Rel::Group {
                    input: Box::new(input),
                    keys: set.into_iter().collect(),
                    aggregates: made,
                };
                (group, shown)
            }
            false => (single_rows(input, made, columns)?, shown),
        });
    }
    Ok(Rel::Union {
        inputs: all,
        columns: kept
            .into_iter()
            .chain(partial.iter().map(|aggregate| aggregate.id))
            .collect(),
    })
}
