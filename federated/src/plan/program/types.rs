//! The type of every column of a program, derived from the fragments.

use super::{
    Aggregate, AggregateKind, Expression, JoinKind, Operation, Program, ProgramRelation,
    Relational, Value, Variable,
};
use crate::error::{Code, Error, Result};
use crate::plan::{Comparator, Encoding, Fragment};
use crate::schema::ScalarType;
use std::collections::{BTreeMap, BTreeSet};

/// Limits of one program.
const MAX_OPERATORS: usize = 512;
const MAX_DEPTH: usize = 128;
const MAX_NODES: usize = 20_000;
pub(super) const MAX_KEYS: usize = 64;
/// Digits of a percentile.
const MAX_DIGITS: u8 = 6;

/// The most partners of a row of a join.
pub(crate) const MAX_PARTNERS: u64 = 64;

/// The most rows that stand beside every row of another relation.
pub(crate) const MAX_BESIDE: u64 = 1_000;

/// Bytes of one shared column of a text that travels in several.
pub(crate) const CHUNK_BYTES: u32 = 31;
/// The most bytes of a text that is one shared column, with its length.
pub(crate) const TEXT_CHUNK: u32 = CHUNK_BYTES - 1;

/// The fewest bits, at least one, that hold the positions of a code list.
pub(crate) fn code_bits(codes: usize) -> u32 {
    codes
        .saturating_sub(1)
        .checked_ilog2()
        .map_or(1, |log| log + 1)
}

/// Widths of the shared columns that carry a text of this many bytes and its length.
pub(crate) fn chunks(max_bytes: u32) -> Vec<u32> {
    let mut rest = max_bytes + 1;
    let mut widths = Vec::new();
    while rest > CHUNK_BYTES {
        widths.push(8 * CHUNK_BYTES);
        rest -= CHUNK_BYTES;
    }
    widths.push(8 * rest);
    widths
}

/// What is known of every column and relation of a program.
#[derive(Debug, Clone, Default)]
pub(crate) struct Types {
    pub(crate) values: BTreeMap<Variable, Value>,
    /// The columns of each relation.
    pub(crate) relations: Vec<BTreeSet<Variable>>,
}

pub(super) fn refusal(what: impl Into<String>) -> Error {
    Error::new(
        Code::PeerMisbehaved,
        format!("the joint plan is not valid: {}", what.into()),
    )
}

pub(super) fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(refusal(what)) }
}

impl Program {
    /// Derives every type.
    ///
    /// # Errors
    /// `LimitExceeded` above the caps, `PeerMisbehaved` for what does not go together.
    pub(crate) fn check(&self, fragments: &[Fragment]) -> Result<Types> {
        let mut nodes = 0;
        for operator in &self.operators {
            nodes += operator.looks_at().len();
        }
        if self.operators.len() > MAX_OPERATORS || nodes > MAX_NODES {
            return Err(Error::new(
                Code::LimitExceeded,
                "the joint plan has too many operators or expressions",
            ));
        }
        let mut types = Types::default();
        for (index, fragment) in fragments.iter().enumerate() {
            let mut columns = BTreeSet::new();
            for (column, of) in fragment.columns.iter().enumerate() {
                let variable = Self::variable_of(fragments, index, column);
                let value = Value {
                    data_type: of.data_type,
                    nullable: of.nullable && !matches!(of.encoding, Encoding::KeyTag { .. }),
                    form: of.encoding.clone(),
                };
                types.define(variable, value)?;
                columns.insert(variable);
            }
            types.relations.push(columns);
        }
        let mut taken = BTreeSet::new();
        for operator in &self.operators {
            for input in operator.inputs() {
                ensure(
                    input < types.relations.len() && taken.insert(input),
                    "an operator takes a relation that is not there for it",
                )?;
            }
            let columns = types.operator(operator)?;
            types.relations.push(columns);
        }
        let last = types.relations.len() - 1;
        ensure(
            taken.len() == last && !taken.contains(&last),
            "the result of an operator is not used",
        )?;
        ensure(!self.opened.is_empty(), "nothing is opened")?;
        for variable in &self.opened {
            types.column(last, *variable)?;
            let form = &types.value(*variable)?.form;
            ensure(
                !matches!(form, Encoding::KeyTag { .. } | Encoding::UnitTag { .. }),
                "a tag is opened",
            )?;
        }
        Ok(types)
    }
}

impl Types {
    pub(super) fn define(&mut self, variable: Variable, value: Value) -> Result<()> {
        let due = Variable(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        ensure(variable == due, "columns are not numbered in order")?;
        self.values.insert(variable, value);
        Ok(())
    }

    /// Type and form of a column.
    pub(crate) fn value(&self, variable: Variable) -> Result<&Value> {
        self.values
            .get(&variable)
            .ok_or_else(|| refusal("a column is named that nothing makes"))
    }

    pub(super) fn column(&self, relation: ProgramRelation, variable: Variable) -> Result<&Value> {
        ensure(
            self.relations
                .get(relation)
                .is_some_and(|of| of.contains(&variable)),
            "a column is named that its relation does not have",
        )?;
        self.value(variable)
    }

    fn operator(&mut self, operator: &Relational) -> Result<BTreeSet<Variable>> {
        match operator {
            Relational::Join {
                kind,
                left,
                right,
                on,
                matched,
                most,
                left_most,
            } => {
                // Several partners are found without a look at how often left rows are there.
                ensure(
                    left_most.is_none_or(|bound| bound == 1 && *most == 1),
                    "a bound on left rows that is not checked",
                )?;
                let several = matches!(kind, JoinKind::Inner | JoinKind::Left);
                ensure(
                    *most == 1 || several && (2..=MAX_PARTNERS).contains(most),
                    "a join with too many partners",
                )?;
                self.join(*kind, *left, *right, on, *matched)
            }
            Relational::Guard {
                input,
                units,
                cells,
                keeps_rows,
            } => self.guard(*input, units, cells, *keeps_rows),
            Relational::Beside { left, right, most } => {
                ensure(
                    (1..=MAX_BESIDE).contains(most),
                    "every row beside none, or too many",
                )?;
                let mut columns = self.relations[*left].clone();
                columns.extend(&self.relations[*right]);
                Ok(columns)
            }
            Relational::Filter { input, condition } => {
                let of = self.expression(*input, condition, 0)?;
                ensure(
                    of.data_type == ScalarType::Bool,
                    "a filter that is no condition",
                )?;
                Ok(self.relations[*input].clone())
            }
            Relational::Map { input, computed } => {
                for (variable, expression) in computed {
                    let value = self.expression(*input, expression, 0)?;
                    self.define(*variable, value)?;
                    self.relations[*input].insert(*variable);
                }
                Ok(self.relations[*input].clone())
            }
            Relational::Group {
                input,
                keys,
                aggregates,
                most,
            } => {
                ensure(*most >= 1 && keys.len() <= MAX_KEYS, "a group without room")?;
                let mut columns = BTreeSet::new();
                for key in keys {
                    sortable(self.column(*input, *key)?)?;
                    ensure(columns.insert(*key), "a group key is named twice")?;
                }
                for aggregate in aggregates {
                    let value = self.aggregate(*input, aggregate, keys.is_empty())?;
                    self.define(aggregate.variable, value)?;
                    columns.insert(aggregate.variable);
                }
                Ok(columns)
            }
            Relational::Top { input, keys, rows } => {
                ensure(
                    *rows >= 1 && keys.len() <= MAX_KEYS,
                    "an order without rows",
                )?;
                for key in keys {
                    let value = self.column(*input, key.variable)?;
                    ensure(!is_wide_text(value), "an order by long text")?;
                    ordered(value)?;
                }
                Ok(self.relations[*input].clone())
            }
            Relational::Window {
                input,
                partition,
                order,
                calls,
            } => self.window(*input, partition, order, calls),
            Relational::Union { inputs, columns } => {
                ensure(!inputs.is_empty(), "a union of nothing")?;
                for (at, variable) in columns.iter().enumerate() {
                    let mut made: Option<Value> = None;
                    let mut nothing = false;
                    for (input, of) in inputs {
                        ensure(of.len() == columns.len(), "a union of different widths")?;
                        let Some(from) = of[at] else {
                            nothing = true;
                            continue;
                        };
                        let value = self.column(*input, from)?.clone();
                        made = Some(match made {
                            None => value,
                            Some(before) => {
                                let form = common(&before, &value)?;
                                ensure(
                                    scale(before.data_type) == scale(value.data_type),
                                    "a union of different scales",
                                )?;
                                Value {
                                    nullable: before.nullable || value.nullable,
                                    form,
                                    ..before
                                }
                            }
                        });
                    }
                    let mut value = made.ok_or_else(|| refusal("a union of nothing"))?;
                    value.nullable |= nothing;
                    self.define(*variable, value)?;
                }
                Ok(columns.iter().copied().collect())
            }
        }
    }

    fn join(
        &mut self,
        kind: JoinKind,
        left: ProgramRelation,
        right: ProgramRelation,
        on: &[(Variable, Variable)],
        matched: Option<Variable>,
    ) -> Result<BTreeSet<Variable>> {
        ensure(!on.is_empty() && on.len() <= MAX_KEYS, "a join on nothing")?;
        for (a, b) in on {
            let (a, b) = (self.column(left, *a)?, self.column(right, *b)?);
            comparable(a, b)?;
        }
        let mut columns = self.relations[left].clone();
        if matches!(kind, JoinKind::Inner | JoinKind::Left | JoinKind::Full) {
            columns.extend(&self.relations[right]);
        }
        let mut without: Vec<ProgramRelation> = Vec::new();
        if matches!(kind, JoinKind::Left | JoinKind::Full) {
            without.push(right);
        }
        if kind == JoinKind::Full {
            without.push(left);
        }
        for relation in without {
            for variable in self.relations[relation].clone() {
                if let Some(value) = self.values.get_mut(&variable) {
                    value.nullable = true;
                }
            }
        }
        if let Some(matched) = matched {
            ensure(kind == JoinKind::Left, "a flag of a join that has none")?;
            self.define(matched, boolean(false))?;
            columns.insert(matched);
        }
        Ok(columns)
    }

    fn aggregate(
        &self,
        input: ProgramRelation,
        aggregate: &Aggregate,
        global: bool,
    ) -> Result<Value> {
        use AggregateKind as K;
        let argument = match aggregate.argument {
            Some(variable) => Some(self.column(input, variable)?),
            None => None,
        };
        let count = Value {
            data_type: ScalarType::Int64,
            nullable: false,
            form: Encoding::Ring64,
        };
        if let Some(when) = aggregate.when {
            let when = self.column(input, when)?;
            ensure(
                when.data_type == ScalarType::Bool && !when.nullable,
                "an aggregate where something holds that is no truth value",
            )?;
            ensure(
                matches!(aggregate.function, K::Count | K::CountDistinct),
                "a condition of an aggregate that is no count",
            )?;
        }
        let value = match (aggregate.function, argument) {
            (K::Count, _) => count,
            (K::CountDistinct, Some(of)) => {
                sortable(of)?;
                count
            }
            (K::Sum, Some(of)) => {
                ensure(
                    matches!(of.form, Encoding::Ring64 | Encoding::Ring128),
                    "a sum of what is in no ring",
                )?;
                ensure(
                    scale(of.data_type) == scale(aggregate.data_type),
                    "a sum of another scale",
                )?;
                Value {
                    data_type: aggregate.data_type,
                    nullable: of.nullable || global,
                    form: of.form.clone(),
                }
            }
            (K::Min | K::Max, Some(of)) => {
                sortable(of)?;
                ordered(of)?;
                declared(of, aggregate.data_type, of.nullable || global)
            }
            (K::Median, Some(of)) => {
                ensure(
                    is_number(&of.form) && scale(of.data_type) == scale(aggregate.data_type),
                    "a median of what is no number, or of another scale",
                )?;
                sortable(of)?;
                wide(aggregate.data_type, of.nullable || global)
            }
            (K::Percentile { parts, digits }, Some(of)) => {
                ensure(
                    (1..=MAX_DIGITS).contains(&digits) && parts <= 10_u32.pow(u32::from(digits)),
                    "a percentile that is none",
                )?;
                let due = scale(of.data_type).map(|scale| scale.saturating_add(digits));
                ensure(
                    is_number(&of.form) && due.is_some() && due == scale(aggregate.data_type),
                    "a percentile of what is no number, or of another scale",
                )?;
                sortable(of)?;
                wide(aggregate.data_type, of.nullable || global)
            }
            (K::Any, Some(of)) => {
                ensure(
                    !matches!(of.form, Encoding::Ring64 | Encoding::Ring128),
                    "one value of what is in a ring",
                )?;
                declared(of, aggregate.data_type, of.nullable || global)
            }
            (_, None) => return Err(refusal("an aggregate of nothing")),
        };
        ensure(
            value.data_type == aggregate.data_type,
            "an aggregate of another type than is declared",
        )?;
        Ok(value)
    }

    /// The type of an expression over the columns of a relation.
    pub(crate) fn expression(
        &self,
        input: ProgramRelation,
        expression: &Expression,
        depth: usize,
    ) -> Result<Value> {
        ensure(depth < MAX_DEPTH, "an expression of that depth")?;
        let depth = depth + 1;
        match expression {
            Expression::Column(variable) => {
                let value = self.column(input, *variable)?.clone();
                ensure(
                    !matches!(value.form, Encoding::UnitTag { .. }),
                    "an expression over a tag",
                )?;
                Ok(value)
            }
            Expression::Number { value, data_type } => Ok(Value {
                data_type: *data_type,
                nullable: false,
                form: match data_type {
                    ScalarType::Bool => {
                        ensure((0..=1).contains(value), "a truth value that is none")?;
                        Encoding::Bits(1)
                    }
                    ScalarType::Utf8 | ScalarType::Float64 => {
                        return Err(refusal("a number of a type that is none"));
                    }
                    _ => Encoding::Bits(signed_bits(*value)),
                },
            }),
            Expression::Text { value, form } => {
                let fits = match form {
                    Encoding::Codes(codes) => codes.contains(value),
                    Encoding::Text { max_bytes } => {
                        *max_bytes <= TEXT_CHUNK && value.len() <= *max_bytes as usize
                    }
                    _ => false,
                };
                ensure(fits, "a text that does not fit its form")?;
                Ok(Value {
                    data_type: ScalarType::Utf8,
                    nullable: false,
                    form: form.clone(),
                })
            }
            Expression::Null(data_type) => Ok(Value {
                data_type: *data_type,
                nullable: true,
                form: Encoding::Bits(1),
            }),
            Expression::Not(input_of) => {
                let of = self.expression(input, input_of, depth)?;
                ensure(of.data_type == ScalarType::Bool, "NOT of no condition")?;
                Ok(of)
            }
            Expression::All(parts) | Expression::Any(parts) => {
                ensure(!parts.is_empty(), "an empty conjunction or disjunction")?;
                let mut nullable = false;
                for part in parts {
                    let of = self.expression(input, part, depth)?;
                    ensure(
                        of.data_type == ScalarType::Bool,
                        "AND or OR of no condition",
                    )?;
                    nullable |= of.nullable;
                }
                Ok(boolean(nullable))
            }
            Expression::Compare {
                comparator,
                left,
                right,
            } => {
                let a = self.expression(input, left, depth)?;
                let b = self.expression(input, right, depth)?;
                comparable(&a, &b)?;
                if !matches!(comparator, Comparator::Equal | Comparator::NotEqual) {
                    ordered(&a)?;
                    ordered(&b)?;
                }
                Ok(boolean(a.nullable || b.nullable))
            }
            Expression::IsNull(of) => {
                self.expression(input, of, depth)?;
                Ok(boolean(false))
            }
            Expression::Arithmetic {
                operation,
                left,
                right,
                data_type,
                wide,
            } => {
                let a = self.expression(input, left, depth)?;
                let b = self.expression(input, right, depth)?;
                let scales = (scale(a.data_type), scale(b.data_type), scale(*data_type));
                let (Some(a_scale), Some(b_scale), Some(of)) = scales else {
                    return Err(refusal("arithmetic over what is no number"));
                };
                let due = match operation {
                    Operation::Add | Operation::Subtract => {
                        ensure(a_scale == b_scale, "a sum of different scales")?;
                        a_scale
                    }
                    Operation::Multiply => a_scale + b_scale,
                };
                ensure(of == due, "arithmetic of another scale than is declared")?;
                Ok(Value {
                    data_type: *data_type,
                    nullable: a.nullable || b.nullable,
                    form: ring(*wide),
                })
            }
            Expression::Rescale {
                input: of,
                data_type,
                wide,
            } => {
                let of = self.expression(input, of, depth)?;
                let (Some(from), Some(to)) = (scale(of.data_type), scale(*data_type)) else {
                    return Err(refusal("digits of what is no number"));
                };
                ensure(from <= to, "a number that loses digits")?;
                Ok(Value {
                    data_type: *data_type,
                    nullable: of.nullable,
                    form: ring(*wide),
                })
            }
            Expression::Bits { input: of, width } => {
                let of = self.expression(input, of, depth)?;
                ensure(
                    is_number(&of.form) && (1..=128).contains(width),
                    "bits of what is no number",
                )?;
                Ok(Value {
                    form: Encoding::Bits(*width),
                    ..of
                })
            }
            Expression::Quotient {
                left,
                right,
                data_type,
                checked,
            } => {
                let a = self.expression(input, left, depth)?;
                let b = self.expression(input, right, depth)?;
                let nullable = !checked || a.nullable || b.nullable;
                let scales = (scale(a.data_type), scale(b.data_type), scale(*data_type));
                let (Some(a), Some(b), Some(of)) = scales else {
                    return Err(refusal("division of what is no number"));
                };
                ensure(of + b >= a, "a quotient that loses digits")?;
                Ok(Value {
                    data_type: *data_type,
                    nullable,
                    form: Encoding::Bits(128),
                })
            }
            Expression::Case { when, otherwise } => {
                ensure(!when.is_empty(), "CASE without a condition")?;
                let mut made = self.expression(input, otherwise, depth)?;
                for (condition, result) in when {
                    let condition = self.expression(input, condition, depth)?;
                    ensure(
                        condition.data_type == ScalarType::Bool,
                        "CASE of no condition",
                    )?;
                    let result_of = self.expression(input, result, depth)?;
                    let is_null = |of: &Expression| matches!(of, Expression::Null(_));
                    let form = match (is_null(result), is_null(otherwise)) {
                        (true, _) => made.form.clone(),
                        (false, true) => result_of.form.clone(),
                        _ => common(&made, &result_of)?,
                    };
                    ensure(
                        scale(made.data_type) == scale(result_of.data_type),
                        "CASE of different scales",
                    )?;
                    made = Value {
                        data_type: made.data_type,
                        nullable: made.nullable || result_of.nullable,
                        form,
                    };
                }
                Ok(made)
            }
        }
    }
}

/// A value in the type that is declared for it, where that is a number of as many digits after the point.
pub(super) fn declared(of: &Value, data_type: ScalarType, nullable: bool) -> Value {
    let same = scale(of.data_type).is_some() && scale(of.data_type) == scale(data_type);
    Value {
        data_type: if same { data_type } else { of.data_type },
        nullable,
        form: of.form.clone(),
    }
}

pub(super) fn boolean(nullable: bool) -> Value {
    Value {
        data_type: ScalarType::Bool,
        nullable,
        form: Encoding::Bits(1),
    }
}

fn wide(data_type: ScalarType, nullable: bool) -> Value {
    Value {
        data_type,
        nullable,
        form: Encoding::Ring128,
    }
}

fn ring(wide: bool) -> Encoding {
    match wide {
        true => Encoding::Ring128,
        false => Encoding::Ring64,
    }
}

/// The fewest bits of a two's complement number.
pub(super) fn signed_bits(value: i128) -> u32 {
    let magnitude = if value < 0 { !value } else { value };
    129 - magnitude.leading_zeros()
}

/// Digits after the point of a number; none for what is not one.
pub(crate) fn scale(data_type: ScalarType) -> Option<u8> {
    match data_type {
        ScalarType::Int64 => Some(0),
        ScalarType::Decimal { scale, .. } => Some(scale),
        _ => None,
    }
}

fn is_number(form: &Encoding) -> bool {
    matches!(
        form,
        Encoding::Bits(_) | Encoding::Ring64 | Encoding::Ring128
    )
}

pub(super) fn is_wide_text(value: &Value) -> bool {
    matches!(value.form, Encoding::Text { max_bytes } if max_bytes > TEXT_CHUNK)
}

/// Whether equality of two columns has a meaning.
fn comparable(a: &Value, b: &Value) -> Result<()> {
    let forms = match (&a.form, &b.form) {
        (Encoding::KeyTag { .. }, Encoding::KeyTag { .. }) => a.form == b.form,
        (Encoding::Codes(_), Encoding::Codes(_)) => a.form == b.form,
        (Encoding::Text { max_bytes: a }, Encoding::Text { max_bytes: b }) => {
            *a <= TEXT_CHUNK && *b <= TEXT_CHUNK
        }
        (a, b) => is_number(a) && is_number(b),
    };
    let types = match (a.data_type, b.data_type) {
        (ScalarType::Int64 | ScalarType::Decimal { .. }, _) => {
            scale(a.data_type) == scale(b.data_type)
        }
        (a, b) => a == b,
    };
    ensure(
        forms && types,
        "a comparison of columns whose forms do not go together",
    )
}

/// Whether a column can be a key of groups.
pub(super) fn sortable(value: &Value) -> Result<()> {
    let fits = match &value.form {
        Encoding::Text { max_bytes } => *max_bytes <= TEXT_CHUNK,
        Encoding::Bits(_) | Encoding::Codes(_) | Encoding::KeyTag { .. } => true,
        Encoding::UnitTag { .. } => true,
        Encoding::Ring64 | Encoding::Ring128 => false,
    };
    ensure(fits, "a key that is a long text, or in a ring")
}

/// Whether the order of a column's form is that of its values.
pub(super) fn ordered(value: &Value) -> Result<()> {
    let fits = match &value.form {
        Encoding::Codes(codes) => codes.windows(2).all(|pair| pair[0] < pair[1]),
        Encoding::Text { max_bytes } => *max_bytes <= TEXT_CHUNK,
        form => is_number(form),
    };
    ensure(fits, "an order by what has none")
}

/// The form in which two columns meet.
pub(crate) fn common(a: &Value, b: &Value) -> Result<Encoding> {
    Ok(match (&a.form, &b.form) {
        (a, b) if a == b => a.clone(),
        (Encoding::Ring128, other) | (other, Encoding::Ring128) if is_number(other) => {
            Encoding::Ring128
        }
        (Encoding::Ring64, other) | (other, Encoding::Ring64) if is_number(other) => {
            Encoding::Ring64
        }
        (Encoding::Bits(a), Encoding::Bits(b)) => Encoding::Bits(*a.max(b)),
        (Encoding::Text { max_bytes: a }, Encoding::Text { max_bytes: b }) => Encoding::Text {
            max_bytes: *a.max(b),
        },
        _ => return Err(refusal("columns whose forms do not go together")),
    })
}
