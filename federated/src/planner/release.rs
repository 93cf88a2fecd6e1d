//! The last step: projection, HAVING, ORDER BY and LIMIT over guarded values, as SQL over the table
//! `released` with columns `r0, r1, ...`: group keys first, aggregates after them.

use super::block::Block;
use super::columns::{self, Above};
use super::emit::{self, Place};
use super::sql::{Tables, schema_of};
use crate::error::{Code, Error, Result};
use crate::plan::validate::public_groups;
use crate::plan::{ColumnRef, Fragment, OutputColumn, Release, ReleasedColumn, ReleasedSource};
use crate::schema::ScalarType;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, Operator};
use std::sync::Arc;

/// Builds the release of a block from its group keys and the released form of its aggregates.
pub(super) fn build(
    block: &Block,
    input: usize,
    groups: &[ColumnRef],
    fragments: &[Fragment],
    calls: Vec<ReleasedColumn>,
    group_guards: Vec<usize>,
) -> Result<Release> {
    let mut columns = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        let of = fragments
            .get(group.fragment)
            .and_then(|fragment| fragment.columns.get(group.column))
            .ok_or_else(|| Error::new(Code::Internal, "a group key that no fragment has"))?;
        columns.push(ReleasedColumn {
            source: ReleasedSource::Key(position),
            data_type: of.data_type,
            nullable: of.nullable,
        });
    }
    columns.extend(calls);
    let schema = Arc::new(Schema::new(
        columns
            .iter()
            .enumerate()
            .map(|(i, of)| Field::new(format!("r{i}"), of.data_type.to_arrow(), of.nullable))
            .collect::<Vec<_>>(),
    ));

    let mut projection = block.projection.clone();
    let mut sql = text(block, &projection)?;
    let mut types = schema_of(&sql, Tables::bare("released", Arc::clone(&schema)))?;
    let wanted: Vec<ScalarType> = block
        .output
        .iter()
        .map(|(_, data_type, _)| output_type(data_type))
        .collect::<Result<_>>()?;
    let differs = |types: &[(DataType, bool)]| {
        types.len() != wanted.len()
            || types
                .iter()
                .zip(&wanted)
                .any(|((has, _), wants)| *has != wants.to_arrow())
    };
    if differs(&types) {
        for ((expr, (has, _)), wants) in projection.iter_mut().zip(&types).zip(&wanted) {
            if *has != wants.to_arrow() {
                *expr = Expr::Cast(Cast::new(Box::new(expr.clone()), wants.to_arrow()));
            }
        }
        sql = text(block, &projection)?;
        types = schema_of(&sql, Tables::bare("released", schema))?;
        if differs(&types) {
            return Err(Error::new(
                Code::Unsupported,
                "joint queries do not support a result column of this type: cast it",
            ));
        }
    }
    let output = block
        .output
        .iter()
        .zip(types)
        .zip(wanted)
        .map(|(((name, ..), (_, nullable)), data_type)| OutputColumn {
            name: name.clone(),
            data_type,
            nullable,
        })
        .collect();
    let public_groups = public_groups(fragments, groups);
    Ok(Release {
        input,
        columns,
        group_guards,
        public_groups,
        sql,
        output,
    })
}

/// The type in which an output column is delivered.
pub(super) fn output_type(data_type: &DataType) -> Result<ScalarType> {
    if let Some(known) = ScalarType::from_arrow(data_type) {
        return Ok(known);
    }
    match data_type {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => Ok(ScalarType::Int64),
        DataType::Float32 => Ok(ScalarType::Float64),
        _ => Err(Error::new(
            Code::Unsupported,
            "joint queries do not support a result column of this type: cast it to int64, decimal, \
             date, bool or utf8",
        )),
    }
}

fn text(block: &Block, projection: &[Expr]) -> Result<String> {
    let groups = block.groups.len();
    let emit = |expr: &Expr| {
        emit::emit(
            expr,
            Place::Released,
            &|column: &Column| match columns::above(column) {
                Some(Above::Group(group)) => Ok(format!("r{group}")),
                Some(Above::Cell(cell)) => Ok(format!("r{}", groups + cell)),
                None => Err(Error::new(
                    Code::Unsupported,
                    "a column outside of an aggregate function is not among the columns of GROUP BY",
                )),
            },
        )
    };
    let shown: Vec<String> = projection.iter().map(&emit).collect::<Result<_>>()?;
    let items: Vec<String> = shown
        .iter()
        .enumerate()
        .map(|(i, expr)| format!("{expr} AS o{i}"))
        .collect();
    let distinct = if block.distinct { "DISTINCT " } else { "" };
    let mut sql = format!("SELECT {distinct}{} FROM released", items.join(", "));
    if !block.having.is_empty() {
        let conditions: Vec<String> = block
            .having
            .iter()
            .map(|expr| {
                let text = emit(expr)?;
                Ok(match expr {
                    Expr::BinaryExpr(binary) if binary.op == Operator::Or => format!("({text})"),
                    _ => text,
                })
            })
            .collect::<Result<_>>()?;
        sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    let mut order = Vec::new();
    for item in &block.sort {
        // A constant orders nothing, and would be read as an ordinal.
        if columns::above_columns(&item.expr).is_empty() {
            continue;
        }
        let key = emit(&item.expr)?;
        let key = match shown.iter().position(|expr| *expr == key) {
            Some(position) => format!("o{position}"),
            None => key,
        };
        order.push(format!(
            "{key} {} NULLS {}",
            if item.ascending { "ASC" } else { "DESC" },
            if item.nulls_first { "FIRST" } else { "LAST" }
        ));
    }
    if !order.is_empty() {
        sql.push_str(&format!(" ORDER BY {}", order.join(", ")));
    }
    if let Some(fetch) = block.fetch {
        sql.push_str(&format!(" LIMIT {fetch}"));
    }
    if block.skip > 0 {
        sql.push_str(&format!(" OFFSET {}", block.skip));
    }
    Ok(sql)
}
