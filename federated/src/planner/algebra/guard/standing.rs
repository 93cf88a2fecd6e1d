//! Who stands behind the rows of each operator.

use super::super::columns::{ColumnId, Columns, Info};
use super::super::{Aggregate, Block, Function, JoinKind, Rel, Tally};
use super::{Guards, Scanned, Standing, Who};
use crate::catalog::{Table, Unit};
use crate::error::{Code, Error, Result};
use crate::planner::algebra::build::{one, table_column};
use datafusion::logical_expr::Expr;
use std::collections::BTreeSet;

impl Guards<'_> {
    /// Everything but groups.
    pub(super) fn below(&mut self, rel: Rel, outermost: bool) -> Result<(Rel, Vec<Standing>)> {
        match rel {
            Rel::Scan {
                department,
                table,
                columns,
            } => self.scan(department, table, columns),
            Rel::Block(mut block) => {
                let mut all = Vec::new();
                let mut inputs = Vec::new();
                for input in std::mem::take(&mut block.inputs) {
                    let (input, standing) = self.rel(input, outermost)?;
                    inputs.push(input);
                    all.extend(standing);
                }
                block.inputs = inputs;
                Ok((Rel::Block(block), all))
            }
            Rel::Join {
                kind: kind @ (JoinKind::Left | JoinKind::Full),
                left,
                right,
                on,
                conditions,
            } => {
                let (left, mut all) = self.rel(*left, outermost)?;
                let (right, more) = self.rel(*right, outermost)?;
                self.columns.can_be_null(&right.columns());
                if kind == JoinKind::Full {
                    self.columns.can_be_null(&left.columns());
                }
                all.extend(more);
                let rel = Rel::Join {
                    kind,
                    left: Box::new(left),
                    right: Box::new(right),
                    on,
                    conditions,
                };
                Ok((rel, all))
            }
            Rel::Join {
                kind,
                left,
                right,
                on,
                conditions,
            } => {
                let (left, standing) = self.rel(*left, outermost)?;
                let (right, of_right) = self.rel(*right, false)?;
                self.half(kind, (left, standing), (right, of_right), on, conditions)
            }
            Rel::Sort {
                input,
                keys,
                skip,
                fetch,
            } => {
                let (input, standing) = self.rel(*input, outermost)?;
                let rel = Rel::Sort {
                    input: Box::new(input),
                    keys,
                    skip,
                    fetch,
                };
                Ok((rel, standing))
            }
            Rel::Window {
                input,
                partition,
                order,
                calls,
            } => {
                let (input, standing) = self.rel(*input, outermost)?;
                let known = input.determined(&partition.iter().copied().collect());
                for of in &standing {
                    if !matches!(&of.who, Who::Each(tag) if known.contains(tag)) {
                        return Err(self.unsupported(
                            of,
                            "a window function over rows of several units",
                            "the same over groups (SUM(SUM(x)) OVER ...), or with PARTITION BY the unit",
                        ));
                    }
                }
                let rel = Rel::Window {
                    input: Box::new(input),
                    partition,
                    order,
                    calls,
                };
                Ok((rel, standing))
            }
            Rel::Union { inputs, columns } => self.union(inputs, columns, outermost),
            Rel::Group { .. } | Rel::Guard { .. } | Rel::Fragment { .. } => {
                Err(Error::new(Code::Internal, "a relation out of its place"))
            }
        }
    }

    fn scan(
        &mut self,
        department: String,
        table: Box<Table>,
        mut columns: Vec<(usize, ColumnId)>,
    ) -> Result<(Rel, Vec<Standing>)> {
        let key = (department.clone(), table.name.clone());
        let Some(k) = self.demands.get(&key).copied() else {
            let rel = Rel::Scan {
                department,
                table,
                columns,
            };
            return Ok((rel, Vec::new()));
        };
        let unit = match &table.unit {
            Unit::Column(name) => Some(name.clone()),
            Unit::Row if table.key.len() == 1 => table.key.first().cloned(),
            Unit::Row => None,
            Unit::None => {
                return Err(Error::new(
                    Code::BadConfig,
                    format!(
                        "a rule of {department}.{} asks for k = {k}, and the table has no privacy unit: its \
                         owner declares `unit` in catalog.toml, or k = 1",
                        table.name
                    ),
                ));
            }
        };
        let scan = self.scans.len();
        self.scans.push(Scanned {
            department: department.clone(),
            table: table.name.clone(),
            k,
            most: table.max_rows.max(1),
        });
        let mut tag = None;
        if let Some(name) = unit {
            let at = table.columns.iter().position(|of| of.name == name);
            let at = at.ok_or_else(|| {
                Error::new(
                    Code::BadConfig,
                    format!(
                        "the privacy unit of {department}.{} is no column",
                        table.name
                    ),
                )
            })?;
            tag = Some(match columns.iter().find(|(known, _)| *known == at) {
                Some((_, id)) => *id,
                None => {
                    let id = self.columns.add(table_column(&table, at)?);
                    columns.push((at, id));
                    id
                }
            });
        }
        let rel = Rel::Scan {
            department,
            table,
            columns,
        };
        Ok(match tag {
            Some(tag) => {
                let who = Who::Each(tag);
                (rel, vec![Standing { scan, who }])
            }
            None => {
                let count = self.columns.compute(&one())?;
                let who = Who::Many {
                    count,
                    disjoint: true,
                };
                (
                    rel.computing(vec![(count, one())]),
                    vec![Standing { scan, who }],
                )
            }
        })
    }

    /// Semi and anti joins: of the right side one matching unit for each left row, and of an absence the key
    /// that is absent.
    fn half(
        &mut self,
        kind: JoinKind,
        (left, mut standing): (Rel, Vec<Standing>),
        (right, of_right): (Rel, Vec<Standing>),
        on: Vec<(ColumnId, ColumnId)>,
        conditions: Vec<Expr>,
    ) -> Result<(Rel, Vec<Standing>)> {
        let join = |left: Rel, right: Rel, on, conditions| Rel::Join {
            kind,
            left: Box::new(left),
            right: Box::new(right),
            on,
            conditions,
        };
        let keys: BTreeSet<ColumnId> = on.iter().map(|(_, b)| *b).collect();
        let mut taken: Vec<(ColumnId, ColumnId, Function)> = Vec::new();
        for of in &of_right {
            let named = match &of.who {
                Who::Each(tag) => on.iter().find(|(_, b)| b == tag),
                Who::Many { .. } => None,
            };
            let who = match (kind, named, &of.who) {
                (_, Some((a, _)), _) => Who::Each(*a),
                (JoinKind::Anti | JoinKind::NotIn, None, _) => match on.first() {
                    Some((a, _)) => Who::Each(*a),
                    None => return Err(self.no_units_of(of)),
                },
                (_, None, Who::Each(tag)) if conditions.is_empty() => {
                    let mut info = self.columns.info(*tag)?.clone();
                    info.distinct = None;
                    let id = self.columns.add(info);
                    taken.push((id, *tag, Function::Any));
                    Who::Each(id)
                }
                (_, None, Who::Many { count, .. }) if conditions.is_empty() => {
                    let id = self.counted(of, Tally::Max);
                    taken.push((id, *count, Function::Units(Tally::Max)));
                    Who::Many {
                        count: id,
                        disjoint: false,
                    }
                }
                _ => return Err(self.no_units_of(of)),
            };
            standing.push(Standing { scan: of.scan, who });
        }
        if taken.is_empty() {
            return Ok((join(left, right, on, conditions), standing));
        }
        let aggregates = taken.into_iter().map(|(id, tag, function)| Aggregate {
            id,
            function,
            argument: Some(tag.expr()),
        });
        let right = Rel::Group {
            input: Box::new(right),
            keys: keys.into_iter().collect(),
            aggregates: aggregates.collect(),
        };
        let rel = Rel::Block(Block {
            inputs: vec![left, right],
            equal: on,
            ..Block::default()
        });
        Ok((rel, standing))
    }

    fn no_units_of(&self, of: &Standing) -> Error {
        self.unsupported(
            of,
            "EXISTS, IN or NOT IN over a table whose units are not what is compared",
            "the same with the unit of that table among the equal columns",
        )
    }

    fn union(
        &mut self,
        inputs: Vec<(Rel, Vec<ColumnId>)>,
        mut columns: Vec<ColumnId>,
        outermost: bool,
    ) -> Result<(Rel, Vec<Standing>)> {
        let mut parts: Vec<(Rel, Vec<ColumnId>, Vec<Standing>)> = Vec::new();
        for (input, of) in inputs {
            let (input, standing) = self.rel(input, outermost)?;
            parts.push((input, of, standing));
        }
        let mut all = Vec::new();
        for at in 0..parts.len() {
            for of in parts[at].2.clone() {
                let (from, disjoint) = match of.who {
                    Who::Each(tag) => (tag, None),
                    Who::Many { count, disjoint } => (count, Some(disjoint)),
                };
                let mut known = self.columns.info(from)?.clone();
                known.unit = disjoint.is_none();
                let made = self.columns.add(nullable(known.clone()));
                columns.push(made);
                for (other, part) in parts.iter_mut().enumerate() {
                    part.1.push(match other == at {
                        true => from,
                        false => ColumnId::NOTHING,
                    });
                }
                let who = match disjoint {
                    None => Who::Each(made),
                    Some(disjoint) => Who::Many {
                        count: made,
                        disjoint,
                    },
                };
                all.push(Standing { scan: of.scan, who });
            }
        }
        let inputs = parts.into_iter().map(|(input, of, _)| (input, of));
        let rel = Rel::Union {
            inputs: inputs.collect(),
            columns,
        };
        Ok((rel, all))
    }
}

fn nullable(mut info: Info) -> Info {
    info.nullable = true;
    info.null_there = true;
    info
}

/// Whether each row that a column is made in is in at most one row of the relation.
pub(super) fn once(rel: &Rel, id: ColumnId) -> bool {
    let one = BTreeSet::from([id]);
    match rel {
        Rel::Block(block) => {
            if block.computed.iter().any(|(known, _)| *known == id) {
                return true;
            }
            let input = block.inputs.iter().find(|input| input.has(&one));
            input.is_some_and(|input| {
                let own: BTreeSet<ColumnId> = input.columns().into_iter().collect();
                once(input, id) && (block.inputs.len() == 1 || block.others_determined(&own, input))
            })
        }
        Rel::Join {
            kind,
            left,
            right,
            on,
            ..
        } => match kind {
            JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn => once(left, id),
            JoinKind::Left | JoinKind::Full => {
                let lefts = on.iter().map(|(a, _)| *a).collect();
                let rights = on.iter().map(|(_, b)| *b).collect();
                match left.has(&one) {
                    true => once(left, id) && right.unique_on(&rights),
                    false => once(right, id) && left.unique_on(&lefts),
                }
            }
        },
        Rel::Union { inputs, columns } => {
            columns.iter().position(|of| *of == id).is_some_and(|at| {
                inputs.iter().all(|(input, of)| {
                    of.get(at)
                        .is_some_and(|id| *id == ColumnId::NOTHING || once(input, *id))
                })
            })
        }
        Rel::Sort { input, .. } | Rel::Window { input, .. } => !input.has(&one) || once(input, id),
        // What is made here is in each row once.
        Rel::Scan { .. } | Rel::Group { .. } | Rel::Guard { .. } | Rel::Fragment { .. } => true,
    }
}

/// The columns that follow from a unit's tag, where there is one.
pub(super) fn of_unit(rel: &Rel, tag: ColumnId) -> BTreeSet<ColumnId> {
    let one = BTreeSet::from([tag]);
    let mut known = rel.determined(&one);
    match rel {
        Rel::Union { inputs, columns } => {
            let place = columns.iter().position(|of| *of == tag);
            let mut own = inputs.iter().filter_map(|(input, of)| {
                let id = *of.get(place?)?;
                (id != ColumnId::NOTHING).then_some((input, of, id))
            });
            // Rows with this tag are of one input.
            if let (Some((input, of, id)), None) = (own.next(), own.next()) {
                let follows = of_unit(input, id);
                let pairs = columns.iter().zip(of);
                known.extend(
                    pairs
                        .filter(|(_, of)| follows.contains(of))
                        .map(|(id, _)| *id),
                );
            }
        }
        other => {
            for input in other.inputs() {
                if input.has(&one) {
                    known.extend(of_unit(input, tag));
                }
            }
            known = rel.determined(&known);
        }
    }
    known
}

impl Columns {
    /// Rows that differ in these columns stay apart below the aggregate that makes this one.
    pub(super) fn stay_apart(&mut self, id: ColumnId, apart: &[ColumnId]) {
        if let Some(info) = self.info_mut(id) {
            info.apart = apart.to_vec();
        }
    }
}
