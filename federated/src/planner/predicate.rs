//! Conditions across departments: comparisons of values that stay shared, and flags that one owner
//! computes alone.
//!
//! NOT is pushed to the leaves: a leaf that is NULL is "not true" on both sides of it, as SQL has it
//! for a WHERE clause.

use super::block::Block;
use super::columns;
use super::text::Query;
use crate::error::{Code, Error, Result};
use crate::plan::Comparator;
use crate::schema::ScalarType;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// How deep conditions may nest.
const MAX_DEPTH: usize = 128;

/// One side of a comparison: an expression over one relation.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) relation: usize,
    pub(super) expr: Expr,
    pub(super) data_type: ScalarType,
}

/// A condition over several relations, by its "is true" bit.
#[derive(Debug, Clone)]
pub(super) enum Condition {
    Compare {
        comparator: Comparator,
        left: Side,
        right: Side,
    },
    Flag {
        relation: usize,
        expr: Expr,
    },
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Condition {
    /// Visits every leaf.
    pub(super) fn leaves<'a>(&'a self, visit: &mut dyn FnMut(usize, &'a Expr)) {
        match self {
            Self::Compare { left, right, .. } => {
                visit(left.relation, &left.expr);
                visit(right.relation, &right.expr);
            }
            Self::Flag { relation, expr } => visit(*relation, expr),
            Self::All(items) | Self::Any(items) => {
                for item in items {
                    item.leaves(visit);
                }
            }
        }
    }
}

/// Lowers one conjunct that touches several relations.
pub(super) fn lower(
    query: &Query,
    block: &Block,
    types: &DFSchema,
    expr: &Expr,
) -> Result<Condition> {
    Lowering {
        query,
        block,
        types,
    }
    .lower(expr, false, 0)
}

struct Lowering<'a> {
    query: &'a Query,
    block: &'a Block,
    types: &'a DFSchema,
}

impl Lowering<'_> {
    fn lower(&self, expr: &Expr, negated: bool, depth: usize) -> Result<Condition> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                Code::LimitExceeded,
                format!("a condition of the SQL nests deeper than {MAX_DEPTH} levels"),
            ));
        }
        let relations = columns::relations_of(expr);
        if let [] | [_] = relations.as_slice() {
            let expr = if negated {
                Expr::Not(Box::new(expr.clone()))
            } else {
                expr.clone()
            };
            return Ok(Condition::Flag {
                relation: relations.first().copied().unwrap_or(0),
                expr,
            });
        }
        match expr {
            Expr::Alias(alias) => self.lower(&alias.expr, negated, depth + 1),
            Expr::Not(inner) => self.lower(inner, !negated, depth + 1),
            Expr::BinaryExpr(binary) => match binary.op {
                Operator::And | Operator::Or => {
                    let all = (binary.op == Operator::And) != negated;
                    let parts = columns::split(expr.clone(), binary.op)
                        .iter()
                        .map(|part| self.lower(part, negated, depth + 1))
                        .collect::<Result<Vec<_>>>()?;
                    Ok(merge(parts, all))
                }
                op => match comparator(op) {
                    Some(comparator) => {
                        let comparator = if negated {
                            complement(comparator)
                        } else {
                            comparator
                        };
                        self.compare(comparator, &binary.left, &binary.right)
                    }
                    None => {
                        Err(self.refuse("this operator between columns of several departments"))
                    }
                },
            },
            Expr::Between(between) => {
                let low = self.compare(
                    if between.negated == negated {
                        Comparator::GreaterEqual
                    } else {
                        Comparator::Less
                    },
                    &between.expr,
                    &between.low,
                )?;
                let high = self.compare(
                    if between.negated == negated {
                        Comparator::LessEqual
                    } else {
                        Comparator::Greater
                    },
                    &between.expr,
                    &between.high,
                )?;
                Ok(merge(vec![low, high], between.negated == negated))
            }
            Expr::InList(list) => {
                let any = list.negated == negated;
                let comparator = if any {
                    Comparator::Equal
                } else {
                    Comparator::NotEqual
                };
                let parts = list
                    .list
                    .iter()
                    .map(|item| self.compare(comparator, &list.expr, item))
                    .collect::<Result<Vec<_>>>()?;
                Ok(merge(parts, !any))
            }
            _ => Err(self.refuse(
                "this condition over columns of several departments: use comparisons, AND, OR, NOT",
            )),
        }
    }

    fn compare(&self, comparator: Comparator, left: &Expr, right: &Expr) -> Result<Condition> {
        let (left_relations, right_relations) =
            (columns::relations_of(left), columns::relations_of(right));
        let (l, r) = match (left_relations.as_slice(), right_relations.as_slice()) {
            ([l], [r]) if l != r => (*l, *r),
            // Both sides of one table, or one side constant: its owner compares alone.
            ([one], [other]) if one == other => return Ok(local(*one, comparator, left, right)),
            ([one], []) | ([], [one]) => return Ok(local(*one, comparator, left, right)),
            _ => {
                return Err(self.refuse(
                    "an expression that mixes columns of several departments: compare an \
                     expression of one with an expression of another",
                ));
            }
        };
        let (left_type, right_type) = (self.type_of(left)?, self.type_of(right)?);
        let common = comparison_coercion(&left_type, &right_type)
            .and_then(|common| ScalarType::from_arrow(&common))
            .filter(|common| *common != ScalarType::Float64)
            .ok_or_else(|| {
                self.at_column(
                    Error::new(
                        Code::TypeMismatch,
                        "the two sides of a comparison have types that joint queries cannot compare",
                    ),
                    left,
                )
            })?;
        let side = |relation: usize, expr: &Expr, own: &DataType| {
            let target = common.to_arrow();
            Side {
                relation,
                expr: if *own == target {
                    expr.clone()
                } else {
                    Expr::Cast(Cast::new(Box::new(expr.clone()), target))
                },
                data_type: common,
            }
        };
        Ok(Condition::Compare {
            comparator,
            left: side(l, left, &left_type),
            right: side(r, right, &right_type),
        })
    }

    fn type_of(&self, expr: &Expr) -> Result<DataType> {
        expr.get_type(self.types).map_err(|_| {
            Error::new(
                Code::TypeMismatch,
                "an expression of a condition has no type",
            )
        })
    }

    fn refuse(&self, construct: &str) -> Error {
        self.query.unsupported(construct, &[])
    }

    fn at_column(&self, error: Error, expr: &Expr) -> Error {
        let place = columns::base_columns(expr).first().and_then(|id| {
            let relation = self.block.relations.get(id.relation)?;
            let column = relation.table.columns.get(id.column)?;
            self.query.find_column(None, &column.name)
        });
        match place {
            Some((line, column)) => error.position(line, column),
            None => error,
        }
    }
}

fn local(relation: usize, comparator: Comparator, left: &Expr, right: &Expr) -> Condition {
    Condition::Flag {
        relation,
        expr: Expr::BinaryExpr(BinaryExpr::new(
            Box::new(left.clone()),
            operator(comparator),
            Box::new(right.clone()),
        )),
    }
}

/// Joins parts; flags of one relation become one flag, nested lists of one kind one list.
fn merge(parts: Vec<Condition>, all: bool) -> Condition {
    let mut flat = Vec::new();
    for part in parts {
        match (part, all) {
            (Condition::All(items), true) | (Condition::Any(items), false) => flat.extend(items),
            (part, _) => flat.push(part),
        }
    }
    let operator = if all { Operator::And } else { Operator::Or };
    let mut merged: Vec<Condition> = Vec::new();
    for part in flat {
        let Condition::Flag { relation, expr } = part else {
            merged.push(part);
            continue;
        };
        let known = merged.iter_mut().find_map(|item| match item {
            Condition::Flag {
                relation: known,
                expr,
            } if *known == relation => Some(expr),
            _ => None,
        });
        match known {
            Some(known) => {
                let before = std::mem::take(known);
                *known =
                    Expr::BinaryExpr(BinaryExpr::new(Box::new(before), operator, Box::new(expr)));
            }
            None => merged.push(Condition::Flag { relation, expr }),
        }
    }
    match (merged.len(), all) {
        (1, _) => merged.swap_remove(0),
        (_, true) => Condition::All(merged),
        (_, false) => Condition::Any(merged),
    }
}

fn comparator(op: Operator) -> Option<Comparator> {
    Some(match op {
        Operator::Eq => Comparator::Equal,
        Operator::NotEq => Comparator::NotEqual,
        Operator::Lt => Comparator::Less,
        Operator::LtEq => Comparator::LessEqual,
        Operator::Gt => Comparator::Greater,
        Operator::GtEq => Comparator::GreaterEqual,
        _ => return None,
    })
}

fn operator(comparator: Comparator) -> Operator {
    match comparator {
        Comparator::Equal => Operator::Eq,
        Comparator::NotEqual => Operator::NotEq,
        Comparator::Less => Operator::Lt,
        Comparator::LessEqual => Operator::LtEq,
        Comparator::Greater => Operator::Gt,
        Comparator::GreaterEqual => Operator::GtEq,
    }
}

fn complement(comparator: Comparator) -> Comparator {
    match comparator {
        Comparator::Equal => Comparator::NotEqual,
        Comparator::NotEqual => Comparator::Equal,
        Comparator::Less => Comparator::GreaterEqual,
        Comparator::LessEqual => Comparator::Greater,
        Comparator::Greater => Comparator::LessEqual,
        Comparator::GreaterEqual => Comparator::Less,
    }
}
