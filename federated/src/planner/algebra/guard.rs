//! Thresholds: who stands behind every row, and what is withheld where too few do.
//!
//! Every scan of a table with a privacy unit is followed upwards: a row is of one unit, whose tag is a column
//! ([`Who::Each`]), or stands for several ([`Who::Many`]). Above the outermost groups, and above every
//! result for the whole, a [`Guard`] counts them. Groups below others are not withheld: their counts go on.
//! `docs/protocols/guards.md` says which operator makes what of whom, and why that is enough.
//!
//! It must not know of rules: which tables need how many units is what it is told.

pub(super) mod conditions;
mod standing;

use super::columns::{ColumnId, Columns, Info};
use super::functions::quotient;
use super::{Aggregate, Function, Guard, GuardUnit, Rel, Tally};
use crate::error::{Code, Error, Result};
use crate::planner::text::Query;
use arrow::datatypes::DataType;
use conditions::{Atoms, sharpened};
use datafusion::logical_expr::Expr;
use std::collections::{BTreeMap, BTreeSet};

/// The least number of units behind what is released of a table, where that is more than one: by department
/// and table.
pub(in crate::planner) type Demands = BTreeMap<(String, String), u32>;

/// Columns computed above a relation.
type Computed = Vec<(ColumnId, Expr)>;

/// Who stands behind the rows of a relation, of one scan.
#[derive(Debug, Clone)]
struct Standing {
    scan: usize,
    who: Who,
}

#[derive(Debug, Clone)]
enum Who {
    /// Each row is of one unit, this one; of none where it is NULL.
    Each(ColumnId),
    /// Each row stands for at least so many. `disjoint`: no unit stands behind two rows.
    Many { count: ColumnId, disjoint: bool },
}

/// A scan of a table whose units are counted.
#[derive(Debug, Clone)]
struct Scanned {
    department: String,
    table: String,
    k: u32,
    /// A public bound on its units.
    most: u64,
}

/// Adds counts of units and guards.
///
/// # Errors
/// `Unsupported`, in words that say what would run, where units cannot be followed; `BadConfig` for a table
/// that has none.
pub(in crate::planner) fn guard(
    query: &Query,
    rel: Rel,
    demands: &Demands,
    columns: &mut Columns,
) -> Result<Guarded> {
    if demands.is_empty() {
        return Ok(Guarded::Rel(rel));
    }
    let mut guards = Guards {
        query,
        demands,
        columns,
        scans: Vec::new(),
    };
    let (rel, standing) = guards.rel(rel, true)?;
    Ok(match standing.first() {
        None => Guarded::Rel(rel),
        Some(of) => Guarded::Rows(rel, Box::new(guards.single_rows(of))),
    })
}

/// A relation with its guards.
pub(in crate::planner) enum Guarded {
    Rel(Rel),
    /// Rows of single units are in the result, which is refused in these words where nobody's rules do.
    Rows(Rel, Box<Error>),
}

struct Guards<'a> {
    query: &'a Query,
    demands: &'a Demands,
    columns: &'a mut Columns,
    scans: Vec<Scanned>,
}

impl Guards<'_> {
    fn unsupported(&self, of: &Standing, what: &str, instead: &str) -> Error {
        let (name, k) = self.scans.get(of.scan).map_or_else(
            || (String::new(), 1),
            |scan| (format!("{}.{}", scan.department, scan.table), scan.k),
        );
        self.query.unsupported(
            &format!(
                "{what}: the rules of {name} ask for at least {k} privacy units behind what is released. \
                 What would run: {instead}"
            ),
            &[],
        )
    }

    fn single_rows(&self, of: &Standing) -> Error {
        self.unsupported(
            of,
            "rows of single units in the result",
            "the same with GROUP BY, DISTINCT or an aggregate over them",
        )
    }

    /// The relation with its guards, and who stands behind its rows. `outermost`: no group is above it.
    fn rel(&mut self, rel: Rel, outermost: bool) -> Result<(Rel, Vec<Standing>)> {
        match rel {
            Rel::Group {
                input,
                keys,
                aggregates,
            } => {
                let (input, standing) = self.rel(*input, false)?;
                if standing.is_empty() {
                    let rel = Rel::Group {
                        input: Box::new(input),
                        keys,
                        aggregates,
                    };
                    return Ok((rel, standing));
                }
                match outermost || keys.is_empty() {
                    true => Ok((
                        self.guarded(input, keys, aggregates, &standing)?,
                        Vec::new(),
                    )),
                    false => self.inner(input, keys, aggregates, &standing),
                }
            }
            other => self.below(other, outermost),
        }
    }

    /// How the units behind the groups of a relation are counted.
    fn tally(&self, input: &Rel, of: &Standing) -> (Tally, ColumnId) {
        match &of.who {
            Who::Each(tag) => (Tally::Distinct, *tag),
            Who::Many {
                count,
                disjoint: true,
            } if standing::once(input, *count) => (Tally::Sum, *count),
            Who::Many { count, .. } => (Tally::Max, *count),
        }
    }

    /// A column with a number of units.
    pub(super) fn counted(&mut self, of: &Standing, tally: Tally) -> ColumnId {
        let (label, most) = match self.scans.get(of.scan) {
            Some(scan) => (format!("units of {}", scan.table), scan.most),
            None => (String::new(), u64::MAX >> 1),
        };
        let nullable = tally != Tally::Distinct;
        let mut info = Info::new(DataType::Int64, nullable, label);
        info.most = Some(u128::from(most));
        self.columns.add(info)
    }

    /// A group that others are above: who stands behind it goes on.
    fn inner(
        &mut self,
        input: Rel,
        keys: Vec<ColumnId>,
        mut aggregates: Vec<Aggregate>,
        standing: &[Standing],
    ) -> Result<(Rel, Vec<Standing>)> {
        let set: BTreeSet<ColumnId> = keys.iter().copied().collect();
        let known = input.determined(&set);
        let mut list = Vec::new();
        for of in standing {
            let who = match &of.who {
                Who::Each(tag) if set.contains(tag) => Who::Each(*tag),
                Who::Each(tag) if known.contains(tag) => {
                    let info = self.columns.info(*tag)?.clone();
                    let id = self.columns.add(info);
                    aggregates.push(Aggregate {
                        id,
                        function: Function::Any,
                        argument: Some(tag.expr()),
                    });
                    Who::Each(id)
                }
                who => {
                    let (tally, argument) = self.tally(&input, of);
                    let count = self.counted(of, tally);
                    aggregates.push(Aggregate {
                        id: count,
                        function: Function::Units(tally),
                        argument: Some(argument.expr()),
                    });
                    let disjoint = match who {
                        Who::Each(tag) => {
                            let own = standing::of_unit(&input, *tag);
                            keys.iter().all(|key| own.contains(key))
                        }
                        Who::Many { disjoint, .. } => *disjoint && tally == Tally::Sum,
                    };
                    Who::Many { count, disjoint }
                }
            };
            list.push(Standing { scan: of.scan, who });
        }
        let rel = Rel::Group {
            input: Box::new(input),
            keys,
            aggregates,
        };
        Ok((rel, list))
    }

    /// A group whose rows and numbers are released, or compared with rows.
    fn guarded(
        &mut self,
        input: Rel,
        keys: Vec<ColumnId>,
        aggregates: Vec<Aggregate>,
        standing: &[Standing],
    ) -> Result<Rel> {
        let (mut aggregates, after) = self.parts(aggregates)?;
        let values: Vec<ColumnId> = aggregates.iter().map(|of| of.id).collect();
        let mut input = input;
        let local =
            input.owner().is_some() && !aggregates.iter().any(|of| of.function.only_joint());
        let atoms = Atoms::of(&aggregates, self.columns)?;
        if atoms.conditions.len() > conditions::MAX_CONDITIONS {
            let of = &standing[0];
            return Err(self.unsupported(
                of,
                "numbers over more than four different parts of one group",
                "the numbers in two queries",
            ));
        }
        let apart = match local {
            true => Vec::new(),
            false => atoms.apart(&mut input, self.columns)?,
        };
        let mut units = Vec::new();
        for of in standing {
            let (tally, argument) = self.tally(&input, of);
            let rows = self.counted(of, tally);
            self.columns.stay_apart(rows, &apart);
            aggregates.push(Aggregate {
                id: rows,
                function: Function::Units(tally),
                argument: Some(argument.expr()),
            });
            let mut listed = Vec::new();
            if local && !atoms.conditions.is_empty() {
                for pattern in 0..1_usize << atoms.conditions.len() {
                    let id = self.counted(of, tally);
                    aggregates.push(Aggregate {
                        id,
                        function: Function::Units(tally),
                        argument: Some(atoms.only(pattern, argument)),
                    });
                    listed.push(id);
                }
            }
            let scan = self.scans.get(of.scan);
            let scan = scan.ok_or_else(|| Error::new(Code::Internal, "a scan that is none"))?;
            units.push(GuardUnit {
                department: scan.department.clone(),
                k: scan.k,
                rows,
                atoms: listed,
            });
        }
        let global = keys.is_empty();
        let cells = values
            .into_iter()
            .map(|id| {
                let over = match local {
                    true => atoms.over(id),
                    false => Vec::new(),
                };
                (id, over)
            })
            .collect::<Vec<_>>();
        for (id, _) in &cells {
            self.columns.can_be_null(&[*id]);
        }
        Ok(Rel::Guard {
            input: Box::new(Rel::Group {
                input: Box::new(input),
                keys,
                aggregates,
            }),
            guard: Box::new(Guard {
                units,
                cells,
                keeps_rows: global,
            }),
        }
        .computing(after))
    }

    /// Aggregates whose values are released as they are: averages as sums and counts, counts of what can be
    /// NULL and sums of what is zero elsewhere as sums over the rows that have a value.
    fn parts(&mut self, aggregates: Vec<Aggregate>) -> Result<(Vec<Aggregate>, Computed)> {
        let mut list: Vec<Aggregate> = Vec::new();
        let mut after = Vec::new();
        for aggregate in aggregates {
            let Some(argument) = aggregate.argument.clone() else {
                list.push(aggregate);
                continue;
            };
            match aggregate.function {
                Function::Avg => {
                    let sum = self.number(&mut list, Function::Sum, &argument)?;
                    let count = self.number(&mut list, Function::Count, &argument)?;
                    let data_type = self.columns.info(aggregate.id)?.data_type.clone();
                    after.push((aggregate.id, quotient(sum.expr(), count.expr(), data_type)));
                    self.columns.can_be_null(&[aggregate.id]);
                }
                Function::Count | Function::Sum => {
                    let (function, argument) =
                        sharpened(aggregate.function, argument, self.columns)?;
                    list.push(Aggregate {
                        id: aggregate.id,
                        function,
                        argument,
                    });
                }
                _ => list.push(aggregate),
            }
        }
        Ok((list, after))
    }

    /// A sum or a count of its own.
    fn number(
        &mut self,
        list: &mut Vec<Aggregate>,
        function: Function,
        argument: &Expr,
    ) -> Result<ColumnId> {
        let (function, argument) = sharpened(function, argument.clone(), self.columns)?;
        let known = list
            .iter()
            .find(|known| known.function == function && known.argument == argument);
        if let Some(known) = known {
            return Ok(known.id);
        }
        let data_type = match &argument {
            Some(argument) => match self.columns.type_of(argument)?.0 {
                DataType::Decimal128(precision, scale) => {
                    DataType::Decimal128((precision + 10).min(38), scale)
                }
                _ => DataType::Int64,
            },
            None => DataType::Int64,
        };
        let label = argument.as_ref().map_or_else(
            || "count(*)".to_owned(),
            |argument| format!("{}({})", function.name(), self.columns.label(argument)),
        );
        let id = self.columns.add(Info::new(data_type, true, label));
        list.push(Aggregate {
            id,
            function,
            argument,
        });
        Ok(id)
    }
}
