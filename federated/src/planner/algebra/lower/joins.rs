//! Joins over shares: in which order, on which of the equal columns, and outer and semi joins with
//! conditions of their own.

use super::expressions::compared_bits;
use super::{Lower, Place, Relation, Want};
use crate::error::{Code, Error, Result};
use crate::plan::Encoding;
use crate::plan::program::{
    self, Expression, MAX_BESIDE, MAX_PARTNERS, Relational, TEXT_CHUNK, Variable,
};
use crate::planner::algebra::columns::{ColumnId, Info, used};
use crate::planner::algebra::keys::classes;
use crate::planner::algebra::{Block, JoinKind, Rel};
use crate::schema::ScalarType;
use arrow::datatypes::DataType;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeSet;

/// A join that is possible: the sides, and the columns to join on.
struct Candidate {
    left: usize,
    right: usize,
    on: Vec<(ColumnId, ColumnId)>,
    /// Whether every row stands beside several: only where nothing else is left.
    multiplies: bool,
    /// The most right rows for each left one.
    partners: u64,
    cost: u128,
}

impl Lower<'_> {
    /// Joins the inputs of a block, cheapest first, then computes and filters.
    pub(super) fn block(&mut self, block: &Block) -> Result<Relation> {
        let mut inputs = Vec::new();
        for input in &block.inputs {
            inputs.push(self.rel(input)?);
        }
        let classes = classes(&block.equal);
        let mut joined: Vec<(ColumnId, ColumnId)> = Vec::new();
        while inputs.len() > 1 {
            let candidate = self.cheapest(&inputs, &classes)?;
            let (first, second) = match candidate.left < candidate.right {
                true => (candidate.left, candidate.right),
                false => (candidate.right, candidate.left),
            };
            let b = inputs.remove(second);
            let a = inputs.remove(first);
            let (left, right) = match candidate.left < candidate.right {
                true => (a, b),
                false => (b, a),
            };
            joined.extend(&candidate.on);
            let relation = self.inner(left, right, &candidate.on, candidate.partners)?;
            inputs.insert(first, relation);
        }
        let mut relation = inputs
            .pop()
            .ok_or_else(|| Error::new(Code::Internal, "a block without input"))?;
        let mut conditions = Vec::new();
        // Equal columns on which nothing was joined are compared.
        let done = crate::planner::algebra::keys::classes(&joined);
        for (a, b) in &block.equal {
            let same = done
                .iter()
                .any(|class| class.contains(a) && class.contains(b));
            let same_place =
                relation.places.contains_key(a) && relation.places.get(a) == relation.places.get(b);
            if !same && !same_place {
                conditions.push(Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(a.expr()),
                    Operator::Eq,
                    Box::new(b.expr()),
                )));
            }
        }
        conditions.extend(block.conditions.iter().cloned());
        // What conditions look at is computed before them, the rest of the rows' after.
        let mut before: BTreeSet<ColumnId> = conditions.iter().flat_map(used).collect();
        for (id, expr) in block.computed.iter().rev() {
            if before.contains(id) {
                before.extend(used(expr));
            }
        }
        let (first, second): (Vec<_>, Vec<_>) = block
            .computed
            .iter()
            .cloned()
            .partition(|(id, _)| before.contains(id));
        relation = self.computing(relation, &first)?;
        let conditions = conditions
            .iter()
            .map(|condition| self.condition(&relation, condition))
            .collect::<Result<Vec<_>>>()?;
        relation = self.filtered(relation, conditions);
        relation = self.computing(relation, &second)?;
        relation.rel = Rel::Block(block.clone());
        Ok(relation)
    }

    fn cheapest(&self, inputs: &[Relation], classes: &[BTreeSet<ColumnId>]) -> Result<Candidate> {
        let mut best: Option<Candidate> = None;
        let own: Vec<BTreeSet<ColumnId>> = inputs
            .iter()
            .map(|of| of.rel.columns().into_iter().collect())
            .collect();
        let rows: Vec<u128> = inputs
            .iter()
            .map(|of| u128::from(of.rel.estimate(self.columns)))
            .collect();
        for left in 0..inputs.len() {
            for right in 0..inputs.len() {
                if left == right {
                    continue;
                }
                let mut on: Vec<(ColumnId, ColumnId)> = classes
                    .iter()
                    .filter_map(|class| {
                        Some((
                            *class.intersection(&own[left]).next()?,
                            *class.intersection(&own[right]).next()?,
                        ))
                    })
                    .collect();
                let unique = |on: &[(ColumnId, ColumnId)]| {
                    let columns = on.iter().map(|(_, b)| *b).collect();
                    inputs[right].rel.unique_on(&columns)
                };
                // Few rows stand beside all others.
                let few = inputs[right].rel.most(self.columns) <= MAX_BESIDE;
                let partners = match unique(&on) || few && on.is_empty() {
                    true => Some(1),
                    false => inputs[right]
                        .rel
                        .repeats(&on.iter().map(|(_, b)| *b).collect()),
                };
                let Some(partners) = partners.filter(|of| (1..=MAX_PARTNERS).contains(of)) else {
                    continue;
                };
                // The fewest columns on which the right side is unique.
                let mut at = on.len();
                while at > 0 && partners == 1 {
                    at -= 1;
                    let mut less = on.clone();
                    less.remove(at);
                    if !less.is_empty() && unique(&less) {
                        on = less;
                    }
                }
                // A row of its own beside others costs nothing; last, so that fewer are carried.
                let cost = match on.is_empty() {
                    true => rows[left].saturating_mul(rows[right]),
                    false => rows[left] * u128::from(partners) + rows[right],
                };
                let multiplies =
                    partners > 1 || on.is_empty() && inputs[right].rel.most(self.columns) > 1;
                let order = (multiplies, cost);
                let better = |known: &Candidate| order < (known.multiplies, known.cost);
                if best.as_ref().is_none_or(better) {
                    best = Some(Candidate {
                        left,
                        right,
                        on,
                        multiplies,
                        partners,
                        cost,
                    });
                }
            }
        }
        best.ok_or_else(|| self.not_unique(inputs))
    }

    fn not_unique(&self, inputs: &[Relation]) -> Error {
        let names: Vec<String> = inputs
            .iter()
            .map(|input| match &input.rel {
                Rel::Fragment { index, .. } => self
                    .parts
                    .get(*index)
                    .map_or_else(String::new, |part| part.department.clone()),
                _ => "a joined relation".to_owned(),
            })
            .collect();
        Error::new(
            Code::NotUnique,
            format!(
                "each of these can have several rows for one value of its join columns: {}; a join \
                 needs all but one to have a single row, a declared key, or a declared max_repeats \
                 of at most {MAX_PARTNERS}",
                names.join(", ")
            ),
        )
    }

    fn inner(
        &mut self,
        left: Relation,
        right: Relation,
        on: &[(ColumnId, ColumnId)],
        partners: u64,
    ) -> Result<Relation> {
        let rel = Rel::Block(Block {
            inputs: vec![left.rel.clone(), right.rel.clone()],
            equal: on.to_vec(),
            ..Block::default()
        });
        let left_most = self.left_most(&left, on, partners);
        if partners == 1 && !on.is_empty() {
            self.check_key(&right, on.iter().map(|(_, b)| *b).collect());
        }
        let pairs = self.pairs(&left, &right, on, (false, false))?;
        let mut places = left.places;
        places.extend(right.places);
        // Equal columns are one.
        for (a, b) in on {
            if let Some(place) = places.get(a).copied() {
                places.insert(*b, place);
            }
        }
        let relation = self.push(match pairs.is_empty() {
            true => Relational::Beside {
                left: left.relation,
                right: right.relation,
                most: right.rel.most(self.columns).max(1),
            },
            false => Relational::Join {
                kind: program::JoinKind::Inner,
                left: left.relation,
                right: right.relation,
                on: pairs,
                matched: None,
                most: partners,
                left_most,
            },
        });
        Ok(Relation {
            relation,
            places,
            rel,
        })
    }

    /// The bound on left rows of one key that is checked: counts of the right side's units rely on it, and
    /// believe nobody's word.
    fn left_most(
        &mut self,
        left: &Relation,
        on: &[(ColumnId, ColumnId)],
        partners: u64,
    ) -> Option<u64> {
        let keys: BTreeSet<ColumnId> = on.iter().map(|(a, _)| *a).collect();
        if !self.guarded || partners > 1 || keys.is_empty() || !left.rel.unique_on(&keys) {
            return None;
        }
        self.check_key(left, keys);
        Some(1)
    }

    /// The variables of equal columns, in forms that can be compared. `stays`: whether left and right rows
    /// without a key do.
    fn pairs(
        &mut self,
        left: &Relation,
        right: &Relation,
        on: &[(ColumnId, ColumnId)],
        stays: (bool, bool),
    ) -> Result<Vec<(Variable, Variable)>> {
        let mut pairs = Vec::new();
        for (a, b) in on {
            let want = self.key_form(left, right, *a, *b, stays)?;
            if let Want::Key { .. } = want {
                // What is NULL matches nothing; rows without a key do not leave.
                for (relation, id) in [(left, *a), (right, *b)] {
                    if let Some(Place::Fragment(fragment, id)) = relation.places.get(&id)
                        && self.columns.info(*id)?.null_there
                    {
                        self.present[*fragment].insert(*id);
                    }
                }
            }
            let x = self.variable(left, *a, want)?;
            let y = self.variable(right, *b, want)?;
            let form = |variable: &Variable| self.forms.get(variable).cloned();
            let (x_form, y_form) = (form(&x), form(&y));
            let fits = match (&x_form, &y_form) {
                (Some(Encoding::Codes(a)), Some(Encoding::Codes(b))) => a == b,
                (Some(Encoding::Text { .. }), Some(Encoding::Text { .. })) => true,
                (Some(a @ Encoding::KeyTag { .. }), Some(b)) => a == b,
                (Some(a), Some(b)) => {
                    compared_bits(a) <= 128
                        && compared_bits(b) <= 128
                        && !matches!(a, Encoding::Codes(_) | Encoding::Text { .. })
                        && !matches!(b, Encoding::Codes(_) | Encoding::Text { .. })
                }
                _ => false,
            };
            if !fits {
                return Err(self.unsupported(
                    "a join of text columns whose owners declare different code lists",
                ));
            }
            pairs.push((x, y));
        }
        Ok(pairs)
    }

    /// The form in which two columns are compared: text by tags, where its owners do not bound it or
    /// have lists of their own.
    fn key_form(
        &self,
        left: &Relation,
        right: &Relation,
        a: ColumnId,
        b: ColumnId,
        stays: (bool, bool),
    ) -> Result<Want> {
        let (x, y) = (self.columns.info(a)?, self.columns.info(b)?);
        if x.canonical != y.canonical {
            return Err(Error::new(
                Code::BadConfig,
                format!(
                    "{} and {} are brought to different canonical forms: their owners declare one \
                     form in catalog.toml before they are joined",
                    x.label, y.label
                ),
            ));
        }
        if x.data_type != DataType::Utf8 || y.data_type != DataType::Utf8 {
            return Ok(Want::Bits);
        }
        let coded = !x.codes.is_empty() || !y.codes.is_empty();
        let bounded = |info: &Info| info.bytes.is_some_and(|bytes| bytes <= TEXT_CHUNK);
        if (coded && x.codes == y.codes) || (!coded && bounded(x) && bounded(y)) {
            return Ok(Want::Bits);
        }
        let of_fragment = |relation: &Relation, id: &ColumnId| {
            matches!(relation.places.get(id), Some(Place::Fragment(..)))
        };
        let class = self.equal.iter().position(|class| class.contains(&a));
        let class = class.and_then(|class| u32::try_from(class).ok());
        match class {
            // A tag says nothing of NULL: such rows are left out, where the join drops them.
            Some(class)
                if of_fragment(left, &a)
                    && of_fragment(right, &b)
                    && !(stays.0 && x.null_there || stays.1 && y.null_there) =>
            {
                Ok(Want::Key { class })
            }
            _ => Err(self.unsupported(
                "a join of text that can be NULL, or that is computed, without codes or max_bytes",
            )),
        }
    }

    /// A join that is not inner.
    pub(super) fn join(
        &mut self,
        kind: JoinKind,
        left: Relation,
        right: Relation,
        on: &[(ColumnId, ColumnId)],
        conditions: &[Expr],
        rel: &Rel,
    ) -> Result<Relation> {
        let right_columns = on.iter().map(|(_, b)| *b).collect();
        let unique = right.rel.unique_on(&right_columns);
        let several = kind == JoinKind::Left && !unique && conditions.is_empty();
        let partners = match several {
            true => right.rel.repeats(&right_columns),
            false => Some(1),
        };
        let partners = partners.filter(|of| (1..=MAX_PARTNERS).contains(of));
        let of = match kind {
            JoinKind::Left | JoinKind::Full if !unique && (!several || partners.is_none()) => {
                return Err(self.not_unique(&[left, right]));
            }
            _ if on.is_empty() => {
                return Err(self.unsupported(
                    "an outer join, EXISTS or IN across departments without equal columns",
                ));
            }
            JoinKind::Full if !conditions.is_empty() => {
                return Err(self.unsupported(
                    "a FULL JOIN across departments with a condition beside equality",
                ));
            }
            JoinKind::Left => program::JoinKind::Left,
            JoinKind::Full => program::JoinKind::Full,
            JoinKind::Semi => program::JoinKind::Semi,
            JoinKind::Anti => program::JoinKind::Anti,
            JoinKind::NotIn => program::JoinKind::NotIn,
        };
        if kind == JoinKind::NotIn {
            for id in on.iter().flat_map(|(a, b)| [a, b]) {
                let info = self.columns.info(*id)?;
                // Whether a NULL is among the right keys decides about every row.
                if info.nullable && info.data_type == DataType::Utf8 {
                    return Err(self.unsupported(
                        "NOT IN over text that can be NULL across departments: use NOT EXISTS",
                    ));
                }
            }
        }
        let partners = partners.unwrap_or(1);
        let stays = (kind != JoinKind::Semi, kind == JoinKind::Full);
        let left_most = self.left_most(&left, on, partners);
        if matches!(kind, JoinKind::Left) && partners == 1 {
            self.check_key(&right, on.iter().map(|(_, b)| *b).collect());
        }
        let pairs = self.pairs(&left, &right, on, stays)?;
        let lefts = left.places.clone();
        let mut places = left.places.clone();
        if conditions.is_empty() {
            if matches!(kind, JoinKind::Left | JoinKind::Full) {
                places.extend(right.places.clone());
            }
            let relation = self.push(Relational::Join {
                kind: of,
                left: left.relation,
                right: right.relation,
                on: pairs,
                matched: None,
                most: partners,
                left_most,
            });
            return Ok(Relation {
                relation,
                places,
                rel: rel.clone(),
            });
        }
        if !unique || kind == JoinKind::NotIn {
            return Err(self.unsupported(
                "EXISTS or IN across departments with a condition beside equality, where several \
                 rows can match",
            ));
        }
        // One partner at most: the condition is looked at in the joined row.
        places.extend(right.places.clone());
        if kind == JoinKind::Semi {
            let relation = self.push(Relational::Join {
                kind: program::JoinKind::Inner,
                left: left.relation,
                right: right.relation,
                on: pairs,
                matched: None,
                most: 1,
                left_most,
            });
            let joined = Relation {
                relation,
                places,
                rel: rel.clone(),
            };
            let conditions = conditions
                .iter()
                .map(|condition| self.condition(&joined, condition))
                .collect::<Result<Vec<_>>>()?;
            let mut kept = self.filtered(joined, conditions);
            kept.places = lefts;
            return Ok(kept);
        }
        let matched = self.fresh(Encoding::Bits(1));
        let relation = self.push(Relational::Join {
            kind: program::JoinKind::Left,
            left: left.relation,
            right: right.relation,
            on: pairs,
            matched: Some(matched),
            most: 1,
            left_most,
        });
        let mut joined = Relation {
            relation,
            places,
            rel: rel.clone(),
        };
        let mut holds = vec![Expression::Column(matched)];
        for condition in conditions {
            holds.push(self.condition(&joined, condition)?);
        }
        let holds = Expression::Case {
            when: vec![(
                Expression::All(holds),
                Expression::Number {
                    value: 1,
                    data_type: ScalarType::Bool,
                },
            )],
            otherwise: Box::new(Expression::Number {
                value: 0,
                data_type: ScalarType::Bool,
            }),
        };
        if kind == JoinKind::Anti {
            let mut kept = self.filtered(joined, vec![Expression::Not(Box::new(holds))]);
            kept.places = lefts;
            return Ok(kept);
        }
        // A left join: a partner that does not meet the condition is none.
        let flag = self.fresh(Encoding::Bits(1));
        let mut list = vec![(flag, holds)];
        for (id, place) in right.places {
            let variable = self.variable_at(place, id)?;
            let form = self
                .forms
                .get(&variable)
                .cloned()
                .unwrap_or(Encoding::Bits(1));
            let data_type = self.scalar(&self.columns.info(id)?.data_type)?;
            let new = self.fresh(form);
            list.push((
                new,
                Expression::Case {
                    when: vec![(Expression::Column(flag), Expression::Column(variable))],
                    otherwise: Box::new(Expression::Null(data_type)),
                },
            ));
            joined.places.insert(id, Place::Variable(new));
        }
        joined.relation = self.push(Relational::Map {
            input: joined.relation,
            computed: list,
        });
        Ok(joined)
    }

    fn variable_at(&mut self, place: Place, id: ColumnId) -> Result<Variable> {
        match place {
            Place::Variable(variable) => Ok(variable),
            Place::Fragment(fragment, _) => {
                let relation = Relation {
                    relation: fragment,
                    places: [(id, place)].into(),
                    rel: Rel::Block(Block::default()),
                };
                self.variable(&relation, id, Want::Bits)
            }
        }
    }
}
