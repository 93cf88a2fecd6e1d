//! From sorted conditions to the joint plan: strategy, parties, fragments and operators.

use super::block::Block;
use super::cells::Cells;
use super::conditions::{self, Sorted};
use super::cost;
use super::draft::{Draft, number_form};
use super::keys::{Joins, KeyClasses, facts};
use super::order;
use super::predicate::{Condition, Side};
use super::rules::{self, Computing, Demands};
use super::text::Query;
use super::{Planned, Request, Strategy, columns, release, rows};
use crate::error::{Code, Error, Result};
use crate::plan::explain::bytes as human_bytes;
use crate::plan::{
    ColumnRef, Comparator, Encoding, JointPlan, Operator, Party, Predicate, PublicSize,
};
use crate::schema::{Department, ScalarType};
use datafusion::logical_expr::Expr;
use std::collections::{BTreeMap, BTreeSet};

/// Bits of a tag beyond twice the logarithm of the rows: two different keys of one query share a
/// tag with probability below 2^-40.
const TAG_MARGIN_BITS: u32 = 40;
/// Owners refuse shorter ones.
const MIN_TAG_BITS: u32 = 64;

/// What is the same for every strategy.
struct Context<'a> {
    request: &'a Request<'a>,
    query: &'a Query,
    sorted: &'a Sorted<'a>,
    owners: Vec<Department>,
    demands: BTreeMap<Department, Demands>,
}

/// Assembles the plan of a block.
pub(super) fn assemble(request: &Request<'_>, query: &Query, block: &Block) -> Result<Planned> {
    if request.federation.member(request.home).is_none() {
        return Err(Error::new(
            Code::BadRequest,
            format!("{} is not a department of this federation", request.home),
        ));
    }
    if !block.aggregated {
        return Err(rows::refuse(request, query, block));
    }
    let sorted = conditions::sort(query, block)?;
    let owners: BTreeSet<Department> = block
        .relations
        .iter()
        .map(|relation| relation.department.clone())
        .collect();
    let uses = uses(&sorted);
    let demands: BTreeMap<Department, Demands> = owners
        .iter()
        .map(|owner| {
            let of = rules::demands(request.federation, block, &uses, owner, request.home);
            (owner.clone(), of)
        })
        .collect();
    let context = Context {
        request,
        query,
        sorted: &sorted,
        owners: owners.into_iter().collect(),
        demands,
    };
    context.choose()
}

fn uses(sorted: &Sorted<'_>) -> BTreeSet<rules::ColumnUse> {
    let keys: Vec<_> = sorted
        .equal
        .iter()
        .flat_map(|equal| equal.columns.iter().copied())
        .collect();
    let mut filters: Vec<&Expr> = sorted.local.iter().flatten().collect();
    for condition in &sorted.cross {
        condition.leaves(&mut |_, expr| filters.push(expr));
    }
    // A condition on one of several equal columns is one on each of them.
    let filtered: BTreeSet<_> = filters
        .iter()
        .flat_map(|expr| columns::base_columns(expr))
        .collect();
    let implied: Vec<Expr> = sorted
        .equal
        .iter()
        .filter(|equal| equal.columns.iter().any(|id| filtered.contains(id)))
        .flat_map(|equal| equal.columns.iter().copied())
        .map(columns::column_expr)
        .collect();
    filters.extend(&implied);
    rules::uses(sorted.block, &keys, &filters)
}

impl Context<'_> {
    /// The cheapest plan among the strategies that are possible, or the one that was asked for.
    fn choose(&self) -> Result<Planned> {
        let sensitive = self.demands.values().any(|of| of.sensitive);
        let sets = rules::computing_sets(
            self.request.federation,
            &self.owners,
            self.request.home,
            sensitive,
        )?;
        let first = sets
            .first()
            .ok_or_else(|| Error::new(Code::Internal, "there is no computing set"))?;
        if self.sorted.block.relations.len() == 1 {
            let plan = self.build(&Joins::None, first)?;
            return Ok(Planned {
                costs: cost::estimate(&plan),
                plan,
                strategy: None,
                rejected: Vec::new(),
            });
        }
        let mut rejected = Vec::new();
        let mut possible: Vec<Planned> = Vec::new();
        let mut failure = None;
        let wanted = |strategy| self.request.strategy.is_none_or(|only| only == strategy);
        let oblivious = order::oblivious(
            self.query,
            self.sorted.block,
            &self.sorted.equal,
            &self.sorted.shapes,
        );
        match self.aligned(&sets) {
            Ok((joins, set)) if wanted(Strategy::Aligned) => {
                possible.push(self.candidate(Strategy::Aligned, &joins, set)?);
            }
            Ok(_) => rejected.push((Strategy::Aligned, "another was asked for".to_owned())),
            Err(reason) => {
                if self.request.strategy == Some(Strategy::Aligned) {
                    return Err(Error::new(
                        Code::Unsupported,
                        format!("an aligned join is not possible: {reason}"),
                    ));
                }
                rejected.push((Strategy::Aligned, reason));
            }
        }
        match oblivious {
            Ok(order) if wanted(Strategy::Oblivious) => {
                match self.candidate(Strategy::Oblivious, &Joins::Oblivious(order), first) {
                    Ok(plan) => possible.push(plan),
                    Err(error) => {
                        rejected.push((Strategy::Oblivious, error.message.clone()));
                        failure = Some(error);
                    }
                }
            }
            Ok(_) => rejected.push((Strategy::Oblivious, "another was asked for".to_owned())),
            Err(error) => {
                rejected.push((Strategy::Oblivious, error.message.clone()));
                failure = Some(error);
            }
        }
        possible.sort_by_key(|plan| plan.costs.bytes());
        let mut possible = possible.into_iter();
        let Some(mut best) = possible.next() else {
            return Err(
                failure.unwrap_or_else(|| Error::new(Code::Internal, "no strategy was considered"))
            );
        };
        for dearer in possible {
            if let Some(strategy) = dearer.strategy {
                rejected.push((
                    strategy,
                    format!(
                        "it costs about {} in {} rounds, this one {} in {}",
                        human_bytes(dearer.costs.bytes()),
                        dearer.costs.rounds(),
                        human_bytes(best.costs.bytes()),
                        best.costs.rounds()
                    ),
                ));
            }
        }
        best.rejected = rejected;
        Ok(best)
    }

    fn candidate(&self, strategy: Strategy, joins: &Joins, set: &Computing) -> Result<Planned> {
        let plan = self.build(joins, set)?;
        Ok(Planned {
            costs: cost::estimate(&plan),
            plan,
            strategy: Some(strategy),
            rejected: Vec::new(),
        })
    }

    /// An aligned join with its computing parties, or the reason why there is none.
    fn aligned<'s>(
        &self,
        sets: &'s [Computing],
    ) -> std::result::Result<(Joins, &'s Computing), String> {
        let sorted = self.sorted;
        let classes = order::alignment(sorted.block, &sorted.equal, &sorted.shapes)?;
        for (owner, demands) in &self.demands {
            if let Some(rule) = &demands.forbids_sizes {
                return Err(format!("{owner} accepts leakage none only ({rule})"));
            }
        }
        let set = sets
            .iter()
            .find(|set| set.neutral)
            .ok_or("no neutral party computes in a set that every owner accepts")?;
        Ok((Joins::Aligned(classes), set))
    }

    fn build(&self, joins: &Joins, set: &Computing) -> Result<JointPlan> {
        let sorted = self.sorted;
        let block = sorted.block;
        let parties = self.parties(set);
        let keys = KeyClasses::of(joins, block.relations.len());
        let bits = self.tag_bits();
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        let mut key_refs: BTreeMap<(usize, u32), ColumnRef> = BTreeMap::new();
        for (relation, (of, shape)) in block.relations.iter().zip(&sorted.shapes).enumerate() {
            let mut draft = Draft::new(relation, of, shape.clone());
            for column in sorted.key_columns(relation) {
                draft.not_null(column);
            }
            for condition in sorted.local.get(relation).into_iter().flatten() {
                draft.condition(condition)?;
            }
            for (class, tuple) in keys.of_relation(relation) {
                let columns: Vec<usize> = tuple
                    .iter()
                    .filter_map(|equal| sorted.equal.get(*equal)?.of(relation))
                    .collect();
                key_refs.insert((relation, class), draft.keys(&columns, class, bits)?);
            }
            drafts.push(draft);
        }

        let mut operators = self.join_operators(joins, set, &parties, &keys, &key_refs)?;
        let once = facts(joins, &keys, sorted);
        let row_bound = self.row_bound(joins, &once);
        let mut cells = Cells::new(sorted, &self.demands, &parties, self.query);
        cells.units(&mut drafts, &once, &keys, &key_refs, bits)?;
        let mut groups = Vec::new();
        for id in &block.groups {
            let draft = drafts
                .get_mut(id.relation)
                .ok_or_else(|| Error::new(Code::Internal, "a group of no table"))?;
            let form = draft.shared_form(id.column)?;
            groups.push(draft.value(&columns::column_expr(*id), form)?);
        }
        let mut predicates = Vec::new();
        for condition in &sorted.cross {
            predicates.push(self.predicate(condition, &mut drafts)?);
        }
        for call in &block.calls {
            cells.call(call, &mut drafts, row_bound)?;
        }

        if !predicates.is_empty() {
            operators.push(Operator::Filter {
                input: operators.len() - 1,
                predicate: match predicates.len() {
                    1 => predicates.swap_remove(0),
                    _ => Predicate::All(predicates),
                },
            });
        }
        let input = operators.len() - 1;
        let finished = cells.finish();
        operators.push(Operator::Aggregate {
            input,
            keys: groups.clone(),
            cells: finished.cells,
            units: finished.units,
        });

        let mut fragments = Vec::new();
        for (relation, draft) in drafts.into_iter().enumerate() {
            let of = block
                .relations
                .get(relation)
                .ok_or_else(|| Error::new(Code::Internal, "a fragment of no table"))?;
            let bound = draft.shape.bound;
            let sizes = self
                .demands
                .get(&of.department)
                .is_some_and(|demands| demands.forbids_sizes.is_none());
            let size = if sizes {
                PublicSize::Bucket
            } else {
                PublicSize::Declared(bound)
            };
            let conditions = sorted.local.get(relation).map_or(&[][..], Vec::as_slice);
            let estimate = cost::estimated_rows(of, &draft.shape, conditions);
            let owner = party_index(&parties, &of.department)?;
            let unique = keys.unique(relation, sorted);
            fragments.push(draft.finish(owner, size, estimate, unique)?);
        }
        let release = release::build(
            block,
            operators.len() - 1,
            &groups,
            &fragments,
            finished.columns,
            finished.group_guards,
        )?;
        Ok(JointPlan {
            engine: self.request.engine.clone(),
            parties: self.party_roles(&parties, set),
            fragments,
            operators,
            release,
            line: self.request.line,
        })
    }

    fn parties(&self, set: &Computing) -> Vec<Department> {
        let mut parties: BTreeSet<Department> = self.owners.iter().cloned().collect();
        parties.extend(set.departments.iter().cloned());
        parties.insert(self.request.home.to_owned());
        parties.into_iter().collect()
    }

    fn party_roles(&self, parties: &[Department], set: &Computing) -> Vec<Party> {
        parties
            .iter()
            .map(|department| {
                let role = set.departments.iter().position(|name| name == department);
                let catalog_version = self
                    .owners
                    .contains(department)
                    .then(|| {
                        let member = self.request.federation.member(department)?;
                        Some(member.catalog.as_ref()?.version())
                    })
                    .flatten();
                Party {
                    department: department.clone(),
                    computing: role.and_then(|role| u8::try_from(role).ok()),
                    result: department == self.request.home,
                    catalog_version,
                }
            })
            .collect()
    }

    /// Tags wide enough that distinct keys stay distinct, padding included.
    fn tag_bits(&self) -> u32 {
        let rows: u64 = self
            .sorted
            .shapes
            .iter()
            .fold(0, |rows: u64, shape| rows.saturating_add(shape.bound));
        // Buckets pad by less than a factor of two.
        let padded = rows.saturating_mul(2).max(2);
        let log = u64::BITS - (padded - 1).leading_zeros();
        (TAG_MARGIN_BITS + 2 * log).clamp(MIN_TAG_BITS, 128)
    }

    fn join_operators(
        &self,
        joins: &Joins,
        set: &Computing,
        parties: &[Department],
        keys: &KeyClasses,
        key_refs: &BTreeMap<(usize, u32), ColumnRef>,
    ) -> Result<Vec<Operator>> {
        match joins {
            Joins::None => Ok(vec![Operator::Input { fragment: 0 }]),
            Joins::Aligned(_) => {
                let [first, second, neutral] = &set.departments;
                let mask_holders = self
                    .sorted
                    .block
                    .relations
                    .iter()
                    .map(|of| {
                        let holder = if of.department == *first {
                            second
                        } else {
                            first
                        };
                        party_index(parties, holder)
                    })
                    .collect::<Result<_>>()?;
                Ok(vec![Operator::Align {
                    fragments: (0..self.sorted.block.relations.len()).collect(),
                    class: 0,
                    neutral: party_index(parties, neutral)?,
                    mask_holders,
                }])
            }
            Joins::Oblivious(order) => {
                let mut operators = vec![Operator::Input {
                    fragment: order.root,
                }];
                for step in &order.steps {
                    let left = operators.len() - 1;
                    operators.push(Operator::Input {
                        fragment: step.right,
                    });
                    let class = keys.class(&step.classes);
                    let key = |relation| {
                        class
                            .and_then(|class| key_refs.get(&(relation, class)).copied())
                            .ok_or_else(|| Error::new(Code::Internal, "a join without its key"))
                    };
                    operators.push(Operator::Join {
                        left,
                        right: left + 1,
                        left_key: key(step.left)?,
                        right_key: key(step.right)?,
                    });
                }
                Ok(operators)
            }
        }
    }

    fn predicate(&self, condition: &Condition, drafts: &mut [Draft<'_>]) -> Result<Predicate> {
        Ok(match condition {
            Condition::All(items) => Predicate::All(
                items
                    .iter()
                    .map(|item| self.predicate(item, drafts))
                    .collect::<Result<_>>()?,
            ),
            Condition::Any(items) => Predicate::Any(
                items
                    .iter()
                    .map(|item| self.predicate(item, drafts))
                    .collect::<Result<_>>()?,
            ),
            Condition::Flag { relation, expr } => {
                Predicate::Flag(draft(drafts, *relation)?.flag(expr)?)
            }
            Condition::Compare {
                comparator,
                left,
                right,
            } => {
                let form = self.compare_form(*comparator, left, right, drafts)?;
                Predicate::Compare {
                    comparator: *comparator,
                    left: draft(drafts, left.relation)?.value(&left.expr, form.clone())?,
                    right: draft(drafts, right.relation)?.value(&right.expr, form)?,
                }
            }
        })
    }

    /// One form for both sides of a comparison.
    fn compare_form(
        &self,
        comparator: Comparator,
        left: &Side,
        right: &Side,
        drafts: &mut [Draft<'_>],
    ) -> Result<Encoding> {
        if left.data_type != ScalarType::Utf8 {
            return number_form(left.data_type);
        }
        let column = |side: &Side, drafts: &mut [Draft<'_>]| {
            let Some(id) = columns::base_column(&side.expr) else {
                return Err(self.query.unsupported(
                    "a comparison across departments of text that is not a plain column",
                    &[],
                ));
            };
            let draft = draft(drafts, side.relation)?;
            let column = draft.catalogued(id.column)?;
            Ok((column.codes.clone(), draft.text_bytes(column)?))
        };
        let (left_codes, left_bytes) = column(left, drafts)?;
        let (right_codes, right_bytes) = column(right, drafts)?;
        let equality = matches!(comparator, Comparator::Equal | Comparator::NotEqual);
        Ok(
            if equality && !left_codes.is_empty() && left_codes == right_codes {
                Encoding::Codes(left_codes)
            } else {
                Encoding::Text {
                    max_bytes: left_bytes.max(right_bytes),
                }
            },
        )
    }

    /// A bound on the rows of the tables' join, counting the rows behind every group.
    ///
    /// Joined rows multiply by the rows behind each grouped fragment. Where every fragment's rows
    /// appear at most once, a sum of products is at most the product of the sums, and tables with
    /// one row for each key add nothing.
    fn row_bound(&self, joins: &Joins, once: &[bool]) -> u128 {
        let rows: Vec<u128> = self
            .sorted
            .block
            .relations
            .iter()
            .map(|of| u128::from(of.table.max_rows.max(1)))
            .collect();
        let all_once = once.iter().all(|once| *once);
        let root = match joins {
            Joins::Oblivious(order) => order.root,
            Joins::None | Joins::Aligned(_) => 0,
        };
        let grouped: Vec<u128> = rows
            .iter()
            .zip(&self.sorted.shapes)
            .enumerate()
            .filter(|(relation, (_, shape))| shape.grouped && (all_once || *relation != root))
            .map(|(_, (rows, _))| *rows)
            .collect();
        let alone = if all_once && grouped.is_empty() {
            rows.iter().copied().min().unwrap_or(1)
        } else if all_once {
            1
        } else {
            rows.get(root).copied().unwrap_or(1)
        };
        grouped
            .into_iter()
            .fold(alone, |product, rows| product.saturating_mul(rows))
    }
}

fn draft<'d, 'a>(drafts: &'d mut [Draft<'a>], relation: usize) -> Result<&'d mut Draft<'a>> {
    drafts
        .get_mut(relation)
        .ok_or_else(|| Error::new(Code::Internal, "an expression of no table"))
}

fn party_index(parties: &[Department], department: &str) -> Result<usize> {
    rules::party(parties, department)
        .ok_or_else(|| Error::new(Code::Internal, "a department without a role"))
}
