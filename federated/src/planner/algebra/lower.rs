//! From a cut relation to fragments and a program: which form every column takes, in which order inputs
//! are joined, what is opened.

mod division;
mod expressions;
mod groups;
mod guards;
mod joins;
mod numbers;
mod release;
mod window;

use super::columns::{ColumnId, Columns};
use super::cut::Part;
use super::ranges::scale;
use super::{Rel, SortKey};
use crate::error::{Code, Error, Result};
use crate::plan::program::{Expression, OrderKey, Program, Relational, TEXT_CHUNK, Variable};
use crate::plan::{Encoding, Fragment, FragmentColumn, PublicSize};
use crate::planner::text::Query;
use crate::schema::ScalarType;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::logical_expr::{Expr, lit};
use std::collections::{BTreeMap, BTreeSet};

use numbers::{defined, renumbered};
pub(in crate::planner) use release::Opened;

/// Bits of a tag beyond twice the logarithm of the rows.
const TAG_MARGIN_BITS: u32 = 40;

/// Owners refuse shorter ones.
const MIN_TAG_BITS: u32 = 64;

/// The longest text that is opened.
const MAX_TEXT: u32 = 255;

/// A program and its fragments, owners by name.
#[derive(Debug)]
pub(in crate::planner) struct Lowered {
    pub(in crate::planner) fragments: Vec<(String, Fragment)>,
    pub(in crate::planner) program: Program,
    pub(in crate::planner) release: Opened,
    /// The owners of guards, which name them by their position here.
    pub(in crate::planner) departments: Vec<String>,
}

/// Lowers a relation over fragments, of which `output` is wanted under these names and types.
///
/// # Errors
/// `Unsupported` naming the construct; `NotUnique` for a join that repeats rows on both sides.
pub(in crate::planner) fn lower(
    query: &Query,
    cut: super::Cut,
    columns: &mut Columns,
    output: &[ColumnId],
    names: &[(String, DataType, bool)],
    declared: &dyn Fn(&str) -> bool,
) -> Result<Lowered> {
    let (rel, mut release) = release::peel(cut.rel, output, columns)?;
    let rel = match release.opened.is_empty() {
        // The result is made of constants: that its rows are there is what is opened.
        true => {
            let there = lit(1_i64);
            let id = columns.compute(&there)?;
            release.opened.push(id);
            rel.computing(vec![(id, there)])
        }
        false => rel,
    };
    let columns = &*columns;
    let mut pairs = Vec::new();
    equal(&rel, &mut pairs);
    let rows = cut
        .parts
        .iter()
        .map(|part| part.rel.most(columns))
        .fold(0, u64::saturating_add);
    // Buckets pad by less than a factor of two.
    let padded = rows.saturating_mul(2).max(2);
    let tag_bits = TAG_MARGIN_BITS + 2 * (u64::BITS - (padded - 1).leading_zeros());
    let tag_bits = tag_bits.clamp(MIN_TAG_BITS, 128);
    let mut lower = Lower {
        query,
        columns,
        asked: cut.parts.iter().map(|_| Vec::new()).collect(),
        present: cut.parts.iter().map(|_| BTreeSet::new()).collect(),
        parts: &cut.parts,
        forms: BTreeMap::new(),
        operators: Vec::new(),
        made: 0,
        equal: super::keys::classes(&pairs),
        tag_bits,
        guarded: guarded(&rel),
        checked: BTreeMap::new(),
        departments: Vec::new(),
        counted: BTreeMap::new(),
        pending: Vec::new(),
    };
    let relation = lower.rel(&rel)?;
    let mut opened = Vec::new();
    for id in &release.opened {
        opened.push(lower.variable(&relation, *id, Want::Any)?);
    }
    let used_relation = relation.relation;
    let last = lower.parts.len() + lower.operators.len() - 1;
    if used_relation != last {
        return Err(Error::new(Code::Internal, "a plan with a loose end"));
    }
    lower.finish(opened, release, names, declared)
}

/// In which form a column is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Whatever it has.
    Any,
    /// To compare, sort or group by.
    Bits,
    /// To add and multiply; modulo 2^128 where wide.
    Ring { wide: bool },
    /// To compare text of any length with others of this class for equality.
    Key { class: u32 },
    /// To tell privacy units apart; with `alone` in a form of its own, whatever else is asked for.
    Unit { alone: bool },
}

/// Where a column of a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a fragment; the form is chosen when it is asked for.
    Fragment(usize, ColumnId),
    Variable(Variable),
}

/// A relation that a program makes.
#[derive(Debug, Clone)]
struct Relation {
    relation: usize,
    places: BTreeMap<ColumnId, Place>,
    rel: Rel,
}

struct Lower<'a> {
    query: &'a Query,
    columns: &'a Columns,
    parts: &'a [Part],
    /// For each fragment the columns that leave, and in which form.
    asked: Vec<Vec<(ColumnId, Encoding)>>,
    /// For each fragment the columns without which a row does not leave.
    present: Vec<BTreeSet<ColumnId>>,
    /// The form of every variable, by the numbers used while lowering.
    forms: BTreeMap<Variable, Encoding>,
    operators: Vec<Relational>,
    made: u32,
    /// Columns that joins make equal: each class has its own tags.
    equal: Vec<BTreeSet<ColumnId>>,
    /// Bits of a tag: two different keys of one query share one with probability below 2^-40.
    tag_bits: u32,
    /// Whether something is withheld: what a count relies on is then checked on both sides of a join.
    guarded: bool,
    /// Keys of fragments that joins check: what everybody may rely on, whatever their owners say.
    checked: BTreeMap<usize, Vec<BTreeSet<ColumnId>>>,
    /// Owners of guards.
    departments: Vec<String>,
    /// Counts of units, and the operator that makes each.
    counted: BTreeMap<Variable, usize>,
    pending: Vec<guards::Pending>,
}

fn guarded(rel: &Rel) -> bool {
    matches!(rel, Rel::Guard { .. }) || rel.inputs().into_iter().any(guarded)
}

/// Columns that some join makes equal.
fn equal(rel: &Rel, into: &mut Vec<(ColumnId, ColumnId)>) {
    match rel {
        Rel::Block(block) => into.extend(&block.equal),
        Rel::Join { on, .. } => into.extend(on),
        _ => {}
    }
    for input in rel.inputs() {
        equal(input, into);
    }
}

/// Variables of fragments, while their number is not known: fragment and column.
const OF_FRAGMENT: u32 = 1 << 31;

impl Lower<'_> {
    fn unsupported(&self, construct: &str) -> Error {
        self.query.unsupported(construct, &[])
    }

    fn fresh(&mut self, form: Encoding) -> Variable {
        let variable = Variable(self.made);
        self.made += 1;
        self.forms.insert(variable, form);
        variable
    }

    fn push(&mut self, operator: Relational) -> usize {
        self.operators.push(operator);
        self.parts.len() + self.operators.len() - 1
    }

    /// The variable of a column, in the form that is wanted where there is a choice.
    fn variable(&mut self, of: &Relation, id: ColumnId, want: Want) -> Result<Variable> {
        let place =
            of.places.get(&id).copied().ok_or_else(|| {
                Error::new(Code::Internal, "a relation of the plan lacks a column")
            })?;
        match place {
            Place::Variable(variable) => Ok(variable),
            Place::Fragment(fragment, id) => {
                let asked = self.asked.get(fragment).map_or(&[][..], Vec::as_slice);
                let form = match want {
                    Want::Any => asked
                        .iter()
                        .find(|(known, _)| *known == id)
                        .map(|(_, form)| form.clone()),
                    Want::Unit { alone: false } => asked
                        .iter()
                        .find(|(known, form)| *known == id && guards::tells_apart(form))
                        .map(|(_, form)| form.clone()),
                    Want::Bits | Want::Ring { .. } | Want::Key { .. } | Want::Unit { .. } => None,
                };
                let form = match form {
                    Some(form) => form,
                    None => self.form(id, want)?,
                };
                let known = asked.iter().position(|known| *known == (id, form.clone()));
                let at = known.unwrap_or(asked.len());
                if known.is_none() {
                    self.asked[fragment].push((id, form.clone()));
                }
                let number = u32::try_from(fragment << 16 | at)
                    .map_err(|_| Error::new(Code::LimitExceeded, "too many columns"))?;
                let variable = Variable(OF_FRAGMENT | number);
                self.forms.insert(variable, form);
                Ok(variable)
            }
        }
    }

    /// The form in which a column of a fragment leaves.
    fn form(&self, id: ColumnId, want: Want) -> Result<Encoding> {
        let info = self.columns.info(id)?;
        if let Want::Key { class } = want {
            return Ok(Encoding::KeyTag {
                class,
                bits: self.tag_bits,
            });
        }
        if let Want::Ring { wide } = want {
            return Ok(match wide {
                true => Encoding::Ring128,
                false => Encoding::Ring64,
            });
        }
        if let (Want::Unit { .. }, DataType::Utf8) = (want, &info.data_type) {
            return Ok(Encoding::UnitTag {
                bits: self.tag_bits,
            });
        }
        // Also what is always zero has a sign and a digit.
        let fits = |most: u128| (129 - most.leading_zeros()).max(2);
        Ok(match &info.data_type {
            DataType::Boolean => Encoding::Bits(1),
            DataType::Date32 => Encoding::Bits(32),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Encoding::Bits(64),
            DataType::Utf8 if !info.codes.is_empty() => Encoding::Codes(info.codes.clone()),
            DataType::Utf8 => {
                let limit = match want {
                    Want::Any => MAX_TEXT,
                    _ => TEXT_CHUNK,
                };
                match info.bytes.filter(|bytes| *bytes <= limit) {
                    Some(max_bytes) => Encoding::Text {
                        max_bytes: max_bytes.max(1),
                    },
                    None => {
                        return Err(Error::new(
                            Code::Unsupported,
                            format!(
                                "{} is text without a public bound of {limit} bytes: its owner \
                                 declares codes or max_bytes before it is shared",
                                info.label
                            ),
                        ));
                    }
                }
            }
            of if of.is_integer() || matches!(of, DataType::Decimal128(..)) => {
                let most = self.columns.magnitude(&id.expr()).unwrap_or(u128::MAX >> 1);
                let widest = match of {
                    DataType::Decimal128(precision, _) if *precision > 18 => 128,
                    _ => 64,
                };
                Encoding::Bits(fits(most).min(widest))
            }
            _ => {
                return Err(self.unsupported(
                    "a column of this type across departments: cast it to int64, decimal, date, timestamp or bool",
                ));
            }
        })
    }

    fn rel(&mut self, rel: &Rel) -> Result<Relation> {
        match rel {
            Rel::Fragment { index, columns, .. } => Ok(Relation {
                relation: *index,
                places: columns
                    .iter()
                    .map(|id| (*id, Place::Fragment(*index, *id)))
                    .collect(),
                rel: rel.clone(),
            }),
            Rel::Block(block) => self.block(block),
            Rel::Join {
                kind,
                left,
                right,
                on,
                conditions,
            } => {
                let left = self.rel(left)?;
                let right = self.rel(right)?;
                self.join(*kind, left, right, on, conditions, rel)
            }
            Rel::Group {
                input,
                keys,
                aggregates,
            } => {
                let input = self.rel(input)?;
                self.group(input, keys, aggregates, rel)
            }
            Rel::Sort {
                input,
                keys,
                skip,
                fetch,
            } => {
                let input = self.rel(input)?;
                match fetch {
                    // An order that nothing sees.
                    None if *skip == 0 => Ok(input),
                    None => Err(self.unsupported("OFFSET without LIMIT inside a query")),
                    Some(_) if *skip > 0 => Err(self.unsupported("OFFSET inside a query")),
                    Some(fetch) => self.top(input, keys, *fetch as u64, rel),
                }
            }
            Rel::Window {
                input,
                partition,
                order,
                calls,
            } => {
                let input = self.rel(input)?;
                self.window(input, partition, order, calls, rel)
            }
            Rel::Guard { input, guard } => self.guard(input, guard, rel),
            Rel::Union { inputs, columns } => {
                let mut parts = Vec::new();
                for (input, of) in inputs {
                    let relation = self.rel(input)?;
                    let mut variables = Vec::new();
                    for (id, made) in of.iter().zip(columns) {
                        let want = match self.columns.info(*made)?.unit {
                            true => Want::Unit { alone: true },
                            false => Want::Bits,
                        };
                        variables.push(match *id == ColumnId::NOTHING {
                            true => None,
                            false => Some(self.variable(&relation, *id, want)?),
                        });
                    }
                    parts.push((relation.relation, variables));
                }
                let mut places = BTreeMap::new();
                let mut made = Vec::new();
                for (at, id) in columns.iter().enumerate() {
                    let mut of = parts.iter().filter_map(|(_, of)| *of.get(at)?);
                    let form = of
                        .next()
                        .and_then(|variable| self.forms.get(&variable).cloned())
                        .unwrap_or(Encoding::Bits(64));
                    let variable = self.fresh(form);
                    places.insert(*id, Place::Variable(variable));
                    made.push(variable);
                }
                let relation = self.push(Relational::Union {
                    inputs: parts,
                    columns: made,
                });
                Ok(Relation {
                    relation,
                    places,
                    rel: rel.clone(),
                })
            }
            Rel::Scan { .. } => Err(Error::new(Code::Internal, "a table that was not cut")),
        }
    }

    /// The relation with these columns computed.
    fn computing(&mut self, mut of: Relation, computed: &[(ColumnId, Expr)]) -> Result<Relation> {
        let mut list = Vec::new();
        for (id, expr) in computed {
            if let Some(plain) = ColumnId::of_expr(expr).or_else(|| self.rounded(expr))
                && let Some(place) = of.places.get(&plain).copied()
            {
                of.places.insert(*id, place);
                continue;
            }
            let expression = self.expression(&of, expr, Want::Any)?;
            let form = self.form_of(&expression)?;
            let variable = self.fresh(form);
            list.push((variable, expression));
            of.places.insert(*id, Place::Variable(variable));
        }
        if !list.is_empty() {
            of.relation = self.push(Relational::Map {
                input: of.relation,
                computed: list,
            });
        }
        Ok(of)
    }

    /// The exact number that an expression makes floating point. It stays as it is, in the same order, and
    /// is rounded after it is opened.
    fn rounded(&self, expr: &Expr) -> Option<ColumnId> {
        let Expr::Cast(cast) = expr else {
            return None;
        };
        let id = ColumnId::of_expr(&cast.expr)?;
        let exact = scale(&self.columns.info(id).ok()?.data_type).is_some();
        (exact && *cast.field.data_type() == DataType::Float64).then_some(id)
    }

    /// Refuses what is floating point: it is ordered by and opened, and nothing else.
    fn not_rounded(&self, id: ColumnId) -> Result<()> {
        match self.columns.info(id)?.data_type {
            DataType::Float64 => Err(self.unsupported(
                "floating point, like AVG of integers and percentiles, other than in the result: cast \
                 the argument of AVG and MEDIAN to decimal",
            )),
            _ => Ok(()),
        }
    }

    fn filtered(&mut self, mut of: Relation, conditions: Vec<Expression>) -> Relation {
        let mut conditions = conditions;
        let condition = match conditions.len() {
            0 => return of,
            1 => conditions.swap_remove(0),
            _ => Expression::All(conditions),
        };
        of.relation = self.push(Relational::Filter {
            input: of.relation,
            condition,
        });
        of
    }

    fn top(&mut self, input: Relation, keys: &[SortKey], rows: u64, rel: &Rel) -> Result<Relation> {
        let mut input = input;
        let mut list = Vec::new();
        let mut by = Vec::new();
        for key in keys {
            let average = self.average_in_order(&input, &key.expr)?;
            let variable = match (average, ColumnId::of_expr(&key.expr)) {
                (Some(average), _) => {
                    let form = self.form_of(&average)?;
                    self.listed(average, form, &mut list)
                }
                (None, Some(id)) if self.not_rounded(id).is_err() => {
                    self.variable(&input, id, Want::Bits)?
                }
                (None, _) => self.as_column(&input, &key.expr, Want::Bits, &mut list)?,
            };
            by.push(OrderKey {
                variable,
                ascending: key.ascending,
                nulls_first: key.nulls_first,
            });
        }
        if !list.is_empty() {
            input.relation = self.push(Relational::Map {
                input: input.relation,
                computed: list,
            });
        }
        let relation = self.push(Relational::Top {
            input: input.relation,
            keys: by,
            rows: rows.max(1),
        });
        Ok(Relation {
            relation,
            rel: rel.clone(),
            ..input
        })
    }

    fn is_ring(&self, variable: Variable) -> bool {
        matches!(
            self.forms.get(&variable),
            Some(Encoding::Ring64 | Encoding::Ring128)
        )
    }

    /// The bits that a number needs.
    fn width(&self, expr: &Expr) -> u32 {
        let most = self.columns.magnitude(expr).unwrap_or(u128::MAX >> 1);
        (129 - most.leading_zeros()).min(128)
    }

    fn scalar(&self, data_type: &DataType) -> Result<ScalarType> {
        if data_type.is_integer() {
            return Ok(ScalarType::Int64);
        }
        ScalarType::from_arrow(data_type).ok_or_else(|| {
            self.unsupported(
                "a type other than int64, decimal, date, timestamp, bool and text here",
            )
        })
    }

    /// Fragments with the columns that were asked for, and everything numbered.
    fn finish(
        self,
        opened: Vec<Variable>,
        release: release::Peeled,
        names: &[(String, DataType, bool)],
        declared: &dyn Fn(&str) -> bool,
    ) -> Result<Lowered> {
        let mut fragments = Vec::new();
        let mut numbers: BTreeMap<Variable, Variable> = BTreeMap::new();
        let mut next = 0_u32;
        for (index, part) in self.parts.iter().enumerate() {
            let mut asked = self.asked.get(index).cloned().unwrap_or_default();
            if asked.is_empty() {
                // Rows of which nothing but their number matters still have a column.
                let first = part.columns.first().or(part.rel.columns().first()).copied();
                let first = first.ok_or_else(|| self.unsupported("a table without columns"))?;
                asked.push((first, self.form(first, Want::Any)?));
            }
            let outputs: Vec<ColumnId> = asked.iter().map(|(id, _)| *id).collect();
            let present = self.present.get(index).into_iter().flatten();
            let present = present.map(|id| Expr::IsNotNull(Box::new(id.expr())));
            let rel = part.rel.clone().filtered(present.collect());
            let sql = super::fragment(&rel, &outputs, self.columns)?;
            let types = release::types(&sql, &part.rel)?;
            let mut columns = Vec::new();
            for (at, ((id, encoding), (data_type, nullable))) in
                asked.into_iter().zip(types).enumerate()
            {
                let provisional =
                    Variable(OF_FRAGMENT | u32::try_from(index << 16 | at).unwrap_or(u32::MAX));
                numbers.insert(provisional, Variable(next));
                next += 1;
                columns.push(FragmentColumn {
                    data_type: self.scalar(&data_type)?,
                    nullable,
                    encoding,
                    label: self.columns.info(id)?.label.clone(),
                });
            }
            let size = match declared(&part.department) {
                true => PublicSize::Declared(part.rel.most(self.columns).max(1)),
                false => PublicSize::Bucket,
            };
            fragments.push((
                part.department.clone(),
                Fragment {
                    owner: 0,
                    sql,
                    columns,
                    size,
                    estimated_rows: part.rel.estimate(self.columns),
                    unique_key: false,
                },
            ));
        }
        for operator in &self.operators {
            for variable in defined(operator) {
                numbers.insert(variable, Variable(next));
                next += 1;
            }
        }
        let number = |variable: Variable| numbers.get(&variable).copied().unwrap_or(variable);
        let operators = self
            .operators
            .into_iter()
            .map(|operator| renumbered(operator, &number))
            .collect();
        let program = Program {
            operators,
            opened: opened.into_iter().map(number).collect(),
        };
        let owned: Vec<Fragment> = fragments.iter().map(|(_, of)| of.clone()).collect();
        let program = guards::with_atoms(program, &owned, &self.pending)?;
        let types = program.check(&owned)?;
        let release = release::finish(&release, &program, &types, self.columns, names)?;
        Ok(Lowered {
            fragments,
            program,
            release,
            departments: self.departments,
        })
    }
}
