//! A relation of one owner as SQL text: a small normal form that its engine plans again from base tables.

mod window;

use super::columns::{ColumnId, Columns, substitute, used_by};
use super::{Aggregate, Block, Function, JoinKind, Rel, SortKey, Tally};
use crate::error::{Code, Error, Result};
use crate::planner::emit::{self, Place};
use arrow::datatypes::DataType;
use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::{BTreeMap, BTreeSet};

/// `SELECT ... AS c0, ...` of these columns of a relation. Integers come out as 64 bits.
///
/// # Errors
/// `Unsupported` for an expression that has no form.
pub(in crate::planner) fn fragment(
    rel: &Rel,
    outputs: &[ColumnId],
    columns: &Columns,
) -> Result<String> {
    let name = |position: usize, _| format!("c{position}");
    Writer { columns }.select(rel, outputs, &name, true)
}

struct Writer<'a> {
    columns: &'a Columns,
}

/// A FROM clause with its conditions, and what columns are in terms of it.
#[derive(Default)]
struct Source {
    from: String,
    /// How many tables and subqueries FROM has.
    items: usize,
    conditions: Vec<Expr>,
    /// Conditions that are text already.
    other: Vec<String>,
    columns: BTreeMap<ColumnId, Expr>,
    /// Window functions, as text.
    calls: BTreeMap<ColumnId, String>,
}

type Name<'a> = dyn Fn(usize, ColumnId) -> String + 'a;

impl Writer<'_> {
    fn select(
        &self,
        rel: &Rel,
        outputs: &[ColumnId],
        name: &Name<'_>,
        wide: bool,
    ) -> Result<String> {
        match rel {
            Rel::Group {
                input,
                keys,
                aggregates,
            } => self.group(input, keys, aggregates, outputs, name, wide),
            Rel::Sort {
                input,
                keys,
                skip,
                fetch,
            } => {
                let source = self.source(input)?;
                let mut text = self.plain(&source, outputs, name, wide)?;
                text.push_str(&self.order(&source, keys)?);
                if let Some(fetch) = fetch {
                    text.push_str(&format!(" LIMIT {fetch}"));
                }
                if *skip > 0 {
                    text.push_str(&format!(" OFFSET {skip}"));
                }
                Ok(text)
            }
            Rel::Window {
                input,
                partition,
                order,
                calls,
            } => {
                let mut source = self.source(input)?;
                let over = self.over(&source, partition, order)?;
                let mut texts = BTreeMap::new();
                for call in calls {
                    texts.insert(call.id, self.call(&source, call, &over)?);
                }
                source.calls = texts;
                self.plain(&source, outputs, name, wide)
            }
            Rel::Union { inputs, columns } => {
                let parts = inputs
                    .iter()
                    .map(|(input, of)| {
                        let renamed: Vec<ColumnId> = outputs
                            .iter()
                            .filter_map(|id| columns.iter().position(|known| known == id))
                            .filter_map(|at| of.get(at).copied())
                            .collect();
                        // A column can stand for several of the union's.
                        let at = |position: usize, _| {
                            outputs
                                .get(position)
                                .map_or_else(String::new, |id| name(position, *id))
                        };
                        let source = self.source(input)?;
                        self.plain(&source, &renamed, &at, wide)
                    })
                    .collect::<Result<Vec<_>>>()?;
                Ok(parts.join(" UNION ALL "))
            }
            other => {
                let source = self.source(other)?;
                self.plain(&source, outputs, name, wide)
            }
        }
    }

    fn plain(
        &self,
        source: &Source,
        outputs: &[ColumnId],
        name: &Name<'_>,
        wide: bool,
    ) -> Result<String> {
        let mut items = Vec::new();
        for (position, id) in outputs.iter().enumerate() {
            let text = match source.calls.get(id) {
                Some(call) => call.clone(),
                // In place of a column that another input of a union has.
                None if *id == ColumnId::NOTHING => {
                    items.push(format!("NULL AS {}", name(position, *id)));
                    continue;
                }
                None => self.text(source, &id.expr())?,
            };
            let text = self.widened(*id, text, wide)?;
            items.push(format!("{text} AS {}", name(position, *id)));
        }
        // A relation of which nothing but its rows is wanted has a column all the same.
        let items = match items.is_empty() {
            true => "1 AS c0".to_owned(),
            false => items.join(", "),
        };
        Ok(format!(
            "SELECT {items} FROM {}{}",
            source.from,
            self.conditions(source)?
        ))
    }

    fn widened(&self, id: ColumnId, text: String, wide: bool) -> Result<String> {
        let of = &self.columns.info(id)?.data_type;
        Ok(match wide && of.is_integer() && *of != DataType::Int64 {
            true => format!("CAST({text} AS BIGINT)"),
            false => text,
        })
    }

    fn conditions(&self, source: &Source) -> Result<String> {
        let mut parts = Vec::new();
        for condition in &source.conditions {
            let text = self.text(source, condition)?;
            parts.push(match condition {
                Expr::BinaryExpr(binary) if binary.op == Operator::Or => format!("({text})"),
                _ => text,
            });
        }
        parts.extend(source.other.iter().cloned());
        Ok(match parts.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", parts.join(" AND ")),
        })
    }

    fn order(&self, source: &Source, keys: &[SortKey]) -> Result<String> {
        if keys.is_empty() {
            return Ok(String::new());
        }
        let keys = keys
            .iter()
            .map(|key| {
                Ok(format!(
                    "{} {} NULLS {}",
                    self.text(source, &key.expr)?,
                    if key.ascending { "ASC" } else { "DESC" },
                    if key.nulls_first { "FIRST" } else { "LAST" }
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(format!(" ORDER BY {}", keys.join(", ")))
    }

    fn group(
        &self,
        input: &Rel,
        keys: &[ColumnId],
        aggregates: &[Aggregate],
        outputs: &[ColumnId],
        name: &Name<'_>,
        wide: bool,
    ) -> Result<String> {
        let mut source = self.source(input)?;
        let plain = |id: &ColumnId| {
            let of = source.columns.get(id);
            of.is_none_or(|of| matches!(of, Expr::Column(_)))
        };
        if !keys.iter().all(plain) {
            // Computed keys have names of their own: the engine takes a cast and its column for one.
            let mut inner: Vec<ColumnId> = keys.to_vec();
            let arguments = aggregates.iter().filter_map(|of| of.argument.as_ref());
            for id in used_by(arguments) {
                if !inner.contains(&id) {
                    inner.push(id);
                }
            }
            let text = self.select(input, &inner, &|_, id| id.name(), false)?;
            let alias = TableReference::bare("t0");
            source = Source {
                from: format!("({text}) AS t0"),
                items: 1,
                columns: inner
                    .iter()
                    .map(|id| {
                        (
                            *id,
                            Expr::Column(Column::new(Some(alias.clone()), id.name())),
                        )
                    })
                    .collect(),
                ..Source::default()
            };
        }
        let mut items = Vec::new();
        for (position, id) in outputs.iter().enumerate() {
            let aggregate = aggregates.iter().find(|of| of.id == *id);
            let text = match aggregate {
                Some(aggregate) => self.aggregate(&source, aggregate)?,
                None => self.text(&source, &id.expr())?,
            };
            let text = self.widened(*id, text, wide)?;
            items.push(format!("{text} AS {}", name(position, *id)));
        }
        if items.is_empty() {
            items.push("COUNT(*) AS c0".to_owned());
        }
        let mut by: Vec<String> = Vec::new();
        for key in keys {
            let text = self.text(&source, &key.expr())?;
            if !by.contains(&text) {
                by.push(text);
            }
        }
        let by = match by.is_empty() {
            true => String::new(),
            false => format!(" GROUP BY {}", by.join(", ")),
        };
        Ok(format!(
            "SELECT {} FROM {}{}{by}",
            items.join(", "),
            source.from,
            self.conditions(&source)?
        ))
    }

    fn aggregate(&self, source: &Source, aggregate: &Aggregate) -> Result<String> {
        let Some(argument) = &aggregate.argument else {
            return Ok("COUNT(*)".to_owned());
        };
        if aggregate.function == Function::HALF {
            // With a digit more the mean of two values is exact.
            let data_type = emit::type_name(&self.columns.info(aggregate.id)?.data_type)?;
            let text = self.text(source, argument)?;
            return Ok(format!("MEDIAN(CAST({text} AS {data_type}))"));
        }
        let distinct = match aggregate.function {
            Function::CountDistinct | Function::Units(Tally::Distinct) => "DISTINCT ",
            _ => "",
        };
        Ok(format!(
            "{}({distinct}{})",
            aggregate.function.name().to_uppercase(),
            self.text(source, argument)?
        ))
    }

    fn text(&self, source: &Source, expr: &Expr) -> Result<String> {
        let expr = substitute(expr, &source.columns)?;
        emit::emit(&expr, Place::Row, &|column: &Column| {
            let name = emit::quoted(&column.name);
            match &column.relation {
                Some(_) if source.items == 1 => Ok(name),
                Some(relation) => Ok(format!("{}.{name}", relation.table())),
                None => Err(Error::new(
                    Code::Internal,
                    "an expression looks at a column that its relation does not have",
                )),
            }
        })
    }

    /// What a SELECT over this relation reads.
    fn source(&self, rel: &Rel) -> Result<Source> {
        match rel {
            Rel::Block(block) => self.block(block),
            Rel::Join {
                kind,
                left,
                right,
                on,
                conditions,
            } => self.join(*kind, left, right, on, conditions),
            other => {
                let mut source = Source::default();
                self.item(&mut source, other)?;
                Ok(source)
            }
        }
    }

    /// Adds a table or subquery to FROM; returns its text.
    fn item(&self, source: &mut Source, rel: &Rel) -> Result<()> {
        let text = self.named(source, rel)?;
        source.from.push_str(&text);
        Ok(())
    }

    fn named(&self, source: &mut Source, rel: &Rel) -> Result<String> {
        let alias = format!("t{}", source.items);
        source.items += 1;
        let column = |name: &str| {
            Expr::Column(Column::new(
                Some(TableReference::bare(alias.clone())),
                name.to_owned(),
            ))
        };
        match rel {
            Rel::Scan { table, columns, .. } => {
                for (position, id) in columns {
                    let of = table
                        .columns
                        .get(*position)
                        .ok_or_else(|| Error::new(Code::Internal, "a column that no table has"))?;
                    source.columns.insert(*id, column(&of.name));
                }
                Ok(format!("{} AS {alias}", emit::quoted(&table.name)))
            }
            Rel::Fragment { index, columns, .. } => {
                for (position, id) in columns.iter().enumerate() {
                    source.columns.insert(*id, column(&format!("c{position}")));
                }
                Ok(format!("f{index} AS {alias}"))
            }
            other => {
                let outputs = other.columns();
                let text = self.select(other, &outputs, &|_, id| id.name(), false)?;
                for id in outputs {
                    source.columns.insert(id, column(&id.name()));
                }
                Ok(format!("({text}) AS {alias}"))
            }
        }
    }

    fn block(&self, block: &Block) -> Result<Source> {
        let mut source = Source::default();
        let mut rest: Vec<&Rel> = block.inputs.iter().collect();
        let mut equal = block.equal.clone();
        let mut known: BTreeSet<ColumnId> = BTreeSet::new();
        while !rest.is_empty() {
            let joins = |rel: &Rel| {
                let own: BTreeSet<ColumnId> = rel.columns().into_iter().collect();
                equal.iter().any(|(a, b)| {
                    (known.contains(a) && own.contains(b)) || (known.contains(b) && own.contains(a))
                })
            };
            let next = rest.iter().position(|rel| joins(rel));
            let rel = rest.remove(next.unwrap_or(0));
            if source.items > 0 {
                // What nothing joins meets every row.
                let word = next.map_or(" CROSS JOIN ", |_| " JOIN ");
                source.from.push_str(word);
            }
            self.item(&mut source, rel)?;
            known.extend(rel.columns());
            if next.is_none() {
                continue;
            }
            let (now, later): (Vec<_>, Vec<_>) = equal
                .into_iter()
                .partition(|(a, b)| known.contains(a) && known.contains(b));
            equal = later;
            let on = now
                .iter()
                .map(|(a, b)| {
                    Ok(format!(
                        "{} = {}",
                        self.text(&source, &a.expr())?,
                        self.text(&source, &b.expr())?
                    ))
                })
                .collect::<Result<Vec<_>>>()?;
            source.from.push_str(&format!(" ON {}", on.join(" AND ")));
        }
        for (id, expr) in &block.computed {
            let expr = substitute(expr, &source.columns)?;
            source.columns.insert(*id, expr);
        }
        // Equalities of computed columns.
        source.conditions.extend(equal.iter().map(|(a, b)| {
            Expr::BinaryExpr(BinaryExpr::new(
                Box::new(a.expr()),
                Operator::Eq,
                Box::new(b.expr()),
            ))
        }));
        source.conditions.extend(block.conditions.iter().cloned());
        Ok(source)
    }

    fn join(
        &self,
        kind: JoinKind,
        left: &Rel,
        right: &Rel,
        on: &[(ColumnId, ColumnId)],
        conditions: &[Expr],
    ) -> Result<Source> {
        let mut source = Source::default();
        self.item(&mut source, left)?;
        if kind == JoinKind::NotIn {
            let [(a, b)] = on else {
                return Err(Error::new(Code::Internal, "NOT IN of several columns"));
            };
            let inner = self.select(right, &[*b], &|_, id| id.name(), false)?;
            let outer = self.text(&source, &a.expr())?;
            source.other.push(format!("{outer} NOT IN ({inner})"));
            return Ok(source);
        }
        let word = match kind {
            JoinKind::Left => "LEFT JOIN",
            JoinKind::Full => "FULL JOIN",
            JoinKind::Semi => "LEFT SEMI JOIN",
            JoinKind::Anti | JoinKind::NotIn => "LEFT ANTI JOIN",
        };
        source.from.push_str(&format!(" {word} "));
        self.item(&mut source, right)?;
        let mut parts = Vec::new();
        for (a, b) in on {
            parts.push(format!(
                "{} = {}",
                self.text(&source, &a.expr())?,
                self.text(&source, &b.expr())?
            ));
        }
        for condition in conditions {
            parts.push(format!("({})", self.text(&source, condition)?));
        }
        if parts.is_empty() {
            parts.push("TRUE".to_owned());
        }
        source
            .from
            .push_str(&format!(" ON {}", parts.join(" AND ")));
        Ok(source)
    }
}
