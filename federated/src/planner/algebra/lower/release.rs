//! What is opened, and the projection, order and limit over opened values.

use super::super::columns::{ColumnId, Columns, substitute, used, used_by};
use super::super::{Block, Rel, SortKey};
use crate::error::{Code, Error, Result};
use crate::plan::program::{Program, Types};
use crate::plan::{OutputColumn, ReleasedColumn, ReleasedSource};
use crate::planner::emit::{self, Place};
use crate::planner::release::output_type;
use crate::planner::sql::{Tables, schema_of};
use crate::schema::ScalarType;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, cast};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The opened columns and what is done with them.
#[derive(Debug, Clone)]
pub(in crate::planner) struct Opened {
    pub(in crate::planner) columns: Vec<ReleasedColumn>,
    pub(in crate::planner) sql: String,
    pub(in crate::planner) output: Vec<OutputColumn>,
}

/// What is taken off the top of a relation, to be done with opened values.
#[derive(Debug, Clone)]
pub(super) struct Peeled {
    pub(super) opened: Vec<ColumnId>,
    computed: Vec<(ColumnId, Expr)>,
    keys: Vec<SortKey>,
    skip: usize,
    fetch: Option<usize>,
    output: Vec<ColumnId>,
}

/// Takes orders and computed columns off the top. A limit stays: what is beyond it is not opened.
pub(super) fn peel(rel: Rel, output: &[ColumnId], columns: &Columns) -> Result<(Rel, Peeled)> {
    let mut peeled = Peeled {
        opened: Vec::new(),
        computed: Vec::new(),
        keys: Vec::new(),
        skip: 0,
        fetch: None,
        output: output.to_vec(),
    };
    let mut rel = rel;
    loop {
        rel = match rel {
            // One row is in order.
            Rel::Sort {
                input,
                skip: 0,
                fetch,
                ..
            } if fetch != Some(0) && input.unique_on(&BTreeSet::new()) => *input,
            Rel::Sort {
                input,
                keys,
                skip,
                fetch,
            } if peeled.keys.is_empty() && peeled.fetch.is_none() && peeled.skip == 0 => {
                peeled.keys.clone_from(&keys);
                peeled.skip = skip;
                peeled.fetch = fetch;
                match fetch {
                    None => *input,
                    Some(fetch) => {
                        let (input, keys) = sorted_before(*input, keys, &mut peeled, columns)?;
                        let top = Rel::Sort {
                            input: Box::new(input),
                            keys,
                            skip: 0,
                            fetch: Some(fetch.saturating_add(skip)),
                        };
                        rel = top;
                        break;
                    }
                }
            }
            Rel::Block(mut block) if block.inputs.len() == 1 && block.conditions.is_empty() => {
                let mut computed = std::mem::take(&mut block.computed);
                computed.append(&mut peeled.computed);
                peeled.computed = computed;
                block.inputs.remove(0)
            }
            Rel::Block(block) => {
                rel = Rel::Block(floats_after(block, &mut peeled, columns)?);
                break;
            }
            other => {
                rel = other;
                break;
            }
        };
    }
    // Only what has a form after the opening is done there.
    let mut by: BTreeMap<ColumnId, Expr> = BTreeMap::new();
    for (id, expr) in &peeled.computed {
        by.insert(*id, substitute(expr, &by)?);
    }
    let mut needed: BTreeSet<ColumnId> = BTreeSet::new();
    let exprs = peeled.output.iter().map(|id| id.expr());
    for expr in exprs.chain(peeled.keys.iter().map(|key| key.expr.clone())) {
        needed.extend(used(&substitute(&expr, &by)?));
    }
    let own: BTreeSet<ColumnId> = rel.columns().into_iter().collect();
    if !needed.is_subset(&own) {
        return Err(Error::new(Code::Internal, "the result lacks a column"));
    }
    peeled.opened = rel
        .columns()
        .into_iter()
        .filter(|id| needed.contains(id))
        .collect();
    peeled.opened.dedup();
    Ok((rel, peeled))
}

/// Floating point below a limit is formed of what is opened; the order is by what it is formed of.
fn sorted_before(
    input: Rel,
    keys: Vec<SortKey>,
    peeled: &mut Peeled,
    columns: &Columns,
) -> Result<(Rel, Vec<SortKey>)> {
    let Rel::Block(block) = input else {
        return Ok((input, keys));
    };
    let before = peeled.computed.len();
    let block = floats_after(block, peeled, columns)?;
    let moved = peeled.computed.len() - before;
    let by: BTreeMap<ColumnId, Expr> = peeled.computed.iter().take(moved).cloned().collect();
    let keys = keys
        .into_iter()
        .map(|key| {
            Ok(SortKey {
                expr: substitute(&key.expr, &by)?,
                ..key
            })
        })
        .collect::<Result<_>>()?;
    Ok((Rel::Block(block), keys))
}

/// A block without the floating point that it computes and its conditions do not look at: it is formed of
/// what is opened.
fn floats_after(mut block: Block, peeled: &mut Peeled, columns: &Columns) -> Result<Block> {
    let mut looked = used_by(&block.conditions);
    for (id, expr) in block.computed.iter().rev() {
        if looked.contains(id) {
            looked.extend(used(expr));
        }
    }
    let mut by: BTreeMap<ColumnId, Expr> = BTreeMap::new();
    let mut moved = Vec::new();
    let mut stays = Vec::new();
    for (id, expr) in std::mem::take(&mut block.computed) {
        let expr = substitute(&expr, &by)?;
        if columns.info(id)?.data_type == DataType::Float64 && !looked.contains(&id) {
            by.insert(id, expr.clone());
            moved.push((id, expr));
        } else {
            stays.push((id, expr));
        }
    }
    block.computed = stays;
    moved.append(&mut peeled.computed);
    peeled.computed = moved;
    Ok(block)
}

/// The release of a program whose types are known.
pub(super) fn finish(
    peeled: &Peeled,
    program: &Program,
    types: &Types,
    columns: &Columns,
    names: &[(String, DataType, bool)],
) -> Result<Opened> {
    let mut released = Vec::new();
    let mut fields = Vec::new();
    for (at, (variable, id)) in program.opened.iter().zip(&peeled.opened).enumerate() {
        let value = types.value(*variable)?;
        // In the type that the engine gives the column, which has the same scale.
        let own = columns.info(*id)?.data_type.clone();
        let data_type = match ScalarType::from_arrow(&own) {
            Some(of @ ScalarType::Decimal { .. }) => of,
            _ => value.data_type,
        };
        fields.push(Field::new(
            format!("r{at}"),
            data_type.to_arrow(),
            value.nullable,
        ));
        released.push(ReleasedColumn {
            source: ReleasedSource::Opened(at),
            data_type,
            nullable: value.nullable,
        });
    }
    let schema = Arc::new(Schema::new(fields));
    let mut by: BTreeMap<ColumnId, Expr> = BTreeMap::new();
    // What is floating point was exact until here.
    for id in &peeled.opened {
        if columns.info(*id)?.data_type == DataType::Float64 {
            by.insert(*id, cast(id.expr(), DataType::Float64));
        }
    }
    for (id, expr) in &peeled.computed {
        by.insert(*id, substitute(expr, &by)?);
    }
    let mut shown: Vec<Expr> = peeled
        .output
        .iter()
        .map(|id| substitute(&id.expr(), &by))
        .collect::<Result<_>>()?;
    let wanted: Vec<ScalarType> = names
        .iter()
        .map(|(_, data_type, _)| output_type(data_type))
        .collect::<Result<_>>()?;
    let mut sql = text(peeled, &shown, &by)?;
    let mut types = schema_of(&sql, Tables::bare("released", Arc::clone(&schema)))?;
    let differs = |types: &[(DataType, bool)]| {
        types.len() != wanted.len()
            || types
                .iter()
                .zip(&wanted)
                .any(|((has, _), wants)| *has != wants.to_arrow())
    };
    if differs(&types) {
        for ((expr, (has, _)), wants) in shown.iter_mut().zip(&types).zip(&wanted) {
            if *has != wants.to_arrow() {
                *expr = cast(expr.clone(), wants.to_arrow());
            }
        }
        sql = text(peeled, &shown, &by)?;
        types = schema_of(&sql, Tables::bare("released", schema))?;
        if differs(&types) {
            return Err(Error::new(
                Code::Unsupported,
                "joint queries do not support a result column of this type: cast it",
            ));
        }
    }
    let output = names
        .iter()
        .zip(types)
        .zip(wanted)
        .map(|(((name, ..), (_, nullable)), data_type)| OutputColumn {
            name: name.clone(),
            data_type,
            nullable,
        })
        .collect();
    Ok(Opened {
        columns: released,
        sql,
        output,
    })
}

fn text(peeled: &Peeled, shown: &[Expr], by: &BTreeMap<ColumnId, Expr>) -> Result<String> {
    let place = |id: ColumnId| peeled.opened.iter().position(|opened| *opened == id);
    let emit = |expr: &Expr| {
        emit::emit(
            expr,
            Place::Released,
            &|column: &Column| match ColumnId::of(column).and_then(place) {
                Some(at) => Ok(format!("r{at}")),
                None => Err(Error::new(Code::Internal, "a column that is not opened")),
            },
        )
    };
    let items: Vec<String> = shown
        .iter()
        .enumerate()
        .map(|(i, expr)| Ok(format!("{} AS o{i}", emit(expr)?)))
        .collect::<Result<_>>()?;
    let mut sql = format!("SELECT {} FROM released", items.join(", "));
    let mut order = Vec::new();
    for key in &peeled.keys {
        let expr = substitute(&key.expr, by)?;
        if used(&expr).is_empty() {
            continue;
        }
        order.push(format!(
            "{} {} NULLS {}",
            emit(&expr)?,
            if key.ascending { "ASC" } else { "DESC" },
            if key.nulls_first { "FIRST" } else { "LAST" }
        ));
    }
    if !order.is_empty() {
        sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    if let Some(fetch) = peeled.fetch {
        sql.push_str(&format!(" LIMIT {fetch}"));
    }
    if peeled.skip > 0 {
        sql.push_str(&format!(" OFFSET {}", peeled.skip));
    }
    Ok(sql)
}

/// Types and nullability of a fragment's columns, as its owner's engine has them.
pub(super) fn types(sql: &str, rel: &Rel) -> Result<Vec<(DataType, bool)>> {
    let mut tables = Tables::default();
    add(rel, &mut tables);
    schema_of(sql, tables)
}

fn add(rel: &Rel, tables: &mut Tables) {
    if let Rel::Scan { table, .. } = rel {
        tables.0.extend(Tables::one(table).0);
    }
    for input in rel.inputs() {
        add(input, tables);
    }
}
