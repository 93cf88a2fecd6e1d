//! Groups of a fragment: whose units stand behind them, and what counts them.

use super::conditions::{Condition, attributes, is_one};
use super::relation::{Follow, Relation};
use super::{Attribute, Counted, Result, Who};
use crate::local::lineage::NotAllowed;
use crate::local::lineage::steps::unaliased;
use datafusion::logical_expr::expr::AggregateFunction as Call;
use datafusion::logical_expr::{Aggregate, Expr};
use std::collections::{BTreeMap, BTreeSet};

impl Follow<'_> {
    pub(super) fn group(&mut self, group: &Aggregate) -> Result<Relation> {
        let input = self.plan(&group.input)?;
        let mut keys = Vec::new();
        for expr in &group.group_expr {
            keys.push(self.value(expr, &input)?);
        }
        let mut calls = Vec::new();
        for expr in &group.aggr_expr {
            let Expr::AggregateFunction(call) = unaliased(expr) else {
                return Err(NotAllowed::new("an aggregate of an unusual kind"));
            };
            calls.push(self.aggregate(call, &input, &keys)?);
        }
        let of_one: BTreeMap<usize, BTreeSet<Attribute>> = self.of_one(group, &input, &calls);
        let mut made = self.grouped(input, keys.clone())?;
        for (scan, named) in of_one {
            let counted = calls.iter().any(|call| {
                let counts = self.counted.get(call).into_iter().flatten();
                counts.into_iter().any(|of| of.scan == scan)
            });
            if let Some(who @ Who::Many { .. }) = made.who.get_mut(&scan)
                && !counted
            {
                *who = Who::Each(named);
            }
        }
        self.known.add(keys, calls.iter().copied());
        made.columns.extend(calls);
        Ok(made)
    }

    /// For each scan the aggregates that are one of the units behind a group: as many are at least different
    /// as these are.
    fn of_one(
        &self,
        group: &Aggregate,
        input: &Relation,
        calls: &[Attribute],
    ) -> BTreeMap<usize, BTreeSet<Attribute>> {
        let mut made: BTreeMap<usize, BTreeSet<Attribute>> = BTreeMap::new();
        for (expr, call) in group.aggr_expr.iter().zip(calls) {
            let Expr::AggregateFunction(of) = unaliased(expr) else {
                continue;
            };
            let plain = match of.params.args.as_slice() {
                [argument] if matches!(of.func.name(), "min" | "max") => {
                    let expanded = self.expanded(argument, input);
                    expanded.ok().and_then(|of| self.plain(&of))
                }
                _ => None,
            };
            for (scan, who) in &input.who {
                if matches!((who, plain), (Who::Each(tags), Some(of)) if tags.contains(&of)) {
                    made.entry(*scan).or_default().insert(*call);
                }
            }
        }
        made
    }

    /// The groups of a relation by attributes.
    pub(super) fn grouped(&mut self, input: Relation, keys: Vec<Attribute>) -> Result<Relation> {
        let set: BTreeSet<Attribute> = keys.iter().copied().collect();
        let known = self.known.closure(&set);
        let mut who = BTreeMap::new();
        for (scan, of) in input.who {
            let of = match of {
                Who::Each(tags) if !tags.is_disjoint(&known) => {
                    Who::Each(tags.intersection(&known).copied().collect())
                }
                Who::Each(tags) => Who::Many {
                    disjoint: set.is_subset(&self.known.closure(&tags)),
                    rows: set.clone(),
                },
                Who::Many { disjoint, .. } => Who::Many {
                    disjoint,
                    rows: set.clone(),
                },
                Who::Unknown => Who::Unknown,
            };
            who.insert(scan, of);
        }
        Ok(Relation {
            schema: input.schema,
            columns: keys,
            who,
            unique: vec![set],
        })
    }

    fn aggregate(
        &mut self,
        call: &Call,
        input: &Relation,
        keys: &[Attribute],
    ) -> Result<Attribute> {
        let attribute = self.fresh();
        let set: BTreeSet<Attribute> = keys.iter().copied().collect();
        let argument = match call.params.args.as_slice() {
            [argument] => self.expanded(argument, input)?,
            _ => return Err(NotAllowed::new("an aggregate of several arguments")),
        };
        let function = call.func.name();
        if function != "count" {
            self.null.insert(attribute);
        }
        self.units(
            attribute,
            function,
            call.params.distinct,
            &argument,
            input,
            &set,
        );
        // The same value in all rows of a group names what it names.
        if matches!(function, "min" | "max")
            && let Some(plain) = self.plain(&argument)
            && self.known.closure(&set).contains(&plain)
        {
            self.known.add([attribute], [plain]);
            self.known.add([plain], [attribute]);
        }
        let mut conditions = Vec::new();
        self.holds(&argument, &mut conditions);
        let known = self.known.closure(&set);
        let apart = |condition: &Expr| {
            let computed = self.computed.iter().find(|(_, of)| *of == condition);
            computed.is_some_and(|(id, _)| known.contains(id))
                || attributes(condition).is_subset(&known)
        };
        // A group of one unit is of that unit, whichever of its rows a number is over.
        let of_one = input
            .who
            .values()
            .all(|who| matches!(who, Who::Each(tags) if !tags.is_disjoint(&known)));
        if !of_one && conditions.iter().any(|condition| !apart(condition)) {
            self.mixed.insert(attribute);
        }
        // Groups of groups are over what those are over.
        for of in attributes(&argument) {
            self.inherits(attribute, of);
        }
        if function == "count" {
            self.unusual.remove(&attribute);
        }
        let texts: Vec<Condition> = conditions.iter().map(ToString::to_string).collect();
        if !texts.is_empty() {
            self.conditions.insert(attribute, texts);
        }
        if function != "count"
            && let Some(why) = self.unusual_sum(&argument)
        {
            self.unusual.insert(attribute, why);
        }
        Ok(attribute)
    }

    /// What an aggregate counts of units.
    fn units(
        &mut self,
        attribute: Attribute,
        function: &str,
        distinct: bool,
        argument: &Expr,
        input: &Relation,
        keys: &BTreeSet<Attribute>,
    ) {
        let (over, argument) = self.over(argument);
        let plain = self.plain(&argument);
        let rows = match function {
            "sum" => is_one(&argument),
            _ => matches!(&argument, Expr::Literal(value, _) if !value.is_null()),
        };
        let mut made = Vec::new();
        for (scan, who) in &input.who {
            let counts = match (who, function) {
                (Who::Each(tags), "count" | "sum") if function == "count" || rows => {
                    let names = plain.is_some_and(|of| tags.contains(&of));
                    // Each row is another unit, none of them unknown.
                    let once = || {
                        let known = tags.iter().any(|tag| !self.null.contains(tag));
                        tags.iter().any(|tag| {
                            let mut whole = keys.clone();
                            whole.insert(*tag);
                            self.known.reaches(&whole, &input.unique)
                        }) && (names || rows && known)
                    };
                    names && distinct || !distinct && once()
                }
                (Who::Many { rows, disjoint }, "sum" | "max") => {
                    let counts = plain
                        .and_then(|of| self.counted.get(&of))
                        .is_some_and(|list| {
                            list.iter().any(|of| of.scan == *scan && of.over.is_empty())
                        });
                    let whole = keys.union(rows).copied().collect();
                    let once = || *disjoint && self.known.reaches(&whole, &input.unique);
                    counts && (function == "max" || once())
                }
                _ => false,
            };
            if counts {
                made.push(Counted {
                    scan: *scan,
                    over: over.clone(),
                });
            }
        }
        if !made.is_empty() {
            self.counted.insert(attribute, made);
        }
    }
}
