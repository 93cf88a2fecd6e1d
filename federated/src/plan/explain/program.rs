//! A program in words.

use super::count;
use crate::plan::program::{
    Aggregate, AggregateKind, Expression, Frame, GuardedCell, JoinKind, Operation, OrderKey,
    Program, Relational, UnitGuard, Variable, WindowCall, WindowFunction,
};
use crate::plan::{Comparator, JointPlan};
use crate::schema::ScalarType;
use std::collections::BTreeMap;

/// What each operator of a program does, in order.
pub(super) fn operators(plan: &JointPlan, program: &Program) -> Vec<String> {
    let mut names = Names::of(plan);
    program
        .operators
        .iter()
        .map(|operator| names.operator(operator))
        .collect()
}

/// What the columns that a program opens are.
pub(super) fn opened(plan: &JointPlan, program: &Program) -> Vec<String> {
    let mut names = Names::of(plan);
    for operator in &program.operators {
        let _ = names.operator(operator);
    }
    let opened = program.opened.iter();
    opened.map(|variable| names.column(*variable)).collect()
}

/// What each guard of a program asks for.
pub(super) fn guards(plan: &JointPlan, program: &Program) -> Vec<(String, String)> {
    let mut names = Names::of(plan);
    let mut all = Vec::new();
    let (mut rows, mut numbers) = (false, false);
    for operator in &program.operators {
        let _ = names.operator(operator);
        let Relational::Guard {
            units,
            cells,
            keeps_rows,
            ..
        } = operator
        else {
            continue;
        };
        rows |= !keeps_rows;
        numbers |= *keeps_rows;
        let lead = if *keeps_rows {
            "the result"
        } else {
            "each group"
        };
        for unit in units {
            let owner = names.parties.get(unit.owner).map_or("", String::as_str);
            all.push((
                lead.to_owned(),
                format!(
                    "at least k = {} of {owner}: {}",
                    unit.k,
                    names.column(unit.rows)
                ),
            ));
        }
        let apart = cells.iter().filter(|cell| !cell.atoms.is_empty()).count();
        let atoms = units.first().map_or(0, |unit| unit.atoms.len());
        if apart > 0 {
            numbers = true;
            let what = if apart == 1 { "1 number" } else { "numbers" };
            all.push((
                what.to_owned(),
                format!(
                    "only where each of the {atoms} parts of {lead} by which the numbers differ has none, or at \
                     least as many"
                ),
            ));
        }
    }
    let text = match (all.is_empty(), rows, numbers) {
        (true, ..) => {
            let text = "every department must allow k = 1 for each use";
            return vec![("none".to_owned(), text.to_owned())];
        }
        (_, true, true) => {
            "groups below k are withheld, and their number is not told; numbers below k are NULL"
        }
        (_, true, false) => "groups below k are withheld, and their number is not told",
        _ => "numbers below k are NULL",
    };
    all.push(("withheld".to_owned(), text.to_owned()));
    all
}

/// What a division opens.
fn opened_bit(divides: bool) -> &'static str {
    match divides {
        true => "; opens whether a divisor is 0 in any row",
        false => "",
    }
}

/// Columns by what they are.
struct Names {
    parties: Vec<String>,
    fragments: usize,
    columns: BTreeMap<Variable, String>,
}

impl Names {
    fn of(plan: &JointPlan) -> Self {
        let mut columns = BTreeMap::new();
        for (index, fragment) in plan.fragments.iter().enumerate() {
            for (column, of) in fragment.columns.iter().enumerate() {
                let variable = Program::variable_of(&plan.fragments, index, column);
                columns.insert(variable, of.label.clone());
            }
        }
        Self {
            parties: plan
                .parties
                .iter()
                .map(|of| of.department.clone())
                .collect(),
            fragments: plan.fragments.len(),
            columns,
        }
    }

    fn column(&self, variable: Variable) -> String {
        let name = self.columns.get(&variable);
        name.cloned().unwrap_or_else(|| format!("v{}", variable.0))
    }

    fn relation(&self, relation: usize) -> String {
        match relation.checked_sub(self.fragments) {
            None => format!("f{relation}"),
            Some(operator) => format!("p{operator}"),
        }
    }

    fn list(&self, variables: &[Variable]) -> String {
        let names: Vec<String> = variables.iter().map(|of| self.column(*of)).collect();
        names.join(", ")
    }

    fn operator(&mut self, operator: &Relational) -> String {
        match operator {
            Relational::Join {
                kind,
                left,
                right,
                on,
                most,
                left_most,
                ..
            } => {
                let words = match kind {
                    JoinKind::Inner => "oblivious join",
                    JoinKind::Left => "oblivious left join",
                    JoinKind::Semi => "oblivious semi join",
                    JoinKind::Anti => "oblivious anti join",
                    JoinKind::NotIn => "oblivious NOT IN",
                    JoinKind::Full => "oblivious full join",
                };
                let pairs: Vec<String> = on
                    .iter()
                    .map(|(a, b)| format!("{} = {}", self.column(*a), self.column(*b)))
                    .collect();
                let partners = match most {
                    1 => String::new(),
                    most => format!(", at most {most} rows of {} each", self.relation(*right)),
                };
                let checked = match left_most {
                    None => String::new(),
                    Some(1) => format!(", one row of {} each, checked", self.relation(*left)),
                    Some(most) => format!(
                        ", at most {most} rows of {} each, checked",
                        self.relation(*left)
                    ),
                };
                format!(
                    "{words} of {} and {} on {}{partners}{checked}",
                    self.relation(*left),
                    self.relation(*right),
                    pairs.join(" AND ")
                )
            }
            Relational::Beside { left, right, most } => format!(
                "every row of {} beside {} of {}",
                self.relation(*left),
                match most {
                    1 => "the one".to_owned(),
                    most => format!("each of at most {most}"),
                },
                self.relation(*right)
            ),
            Relational::Filter { input, condition } => format!(
                "filter of {} where {}{}",
                self.relation(*input),
                self.expression(condition, 0),
                opened_bit(condition.divides())
            ),
            Relational::Map { input, computed } => {
                let mut items = Vec::new();
                for (variable, expression) in computed {
                    let text = self.expression(expression, 0);
                    self.columns.insert(*variable, text.clone());
                    items.push(text);
                }
                let divides = computed.iter().any(|(_, of)| of.divides());
                format!(
                    "{} with {}{}",
                    self.relation(*input),
                    items.join(", "),
                    opened_bit(divides)
                )
            }
            Relational::Group {
                input,
                keys,
                aggregates,
                most,
            } => {
                let items: Vec<String> = aggregates.iter().map(|of| self.aggregate(of)).collect();
                for (aggregate, text) in aggregates.iter().zip(&items) {
                    self.columns.insert(aggregate.variable, text.clone());
                }
                let by = match keys.is_empty() {
                    true => "the whole".to_owned(),
                    false => format!(
                        "each ({}), at most {} of them",
                        self.list(keys),
                        count(*most)
                    ),
                };
                let what = match items.is_empty() {
                    true => "distinct rows".to_owned(),
                    false => items.join(", "),
                };
                format!("groups of {}: {what} for {by}", self.relation(*input))
            }
            Relational::Guard {
                input,
                units,
                cells,
                keeps_rows,
            } => self.guard(*input, units, cells, *keeps_rows),
            Relational::Top { input, keys, rows } => {
                format!(
                    "first {} rows of {}{}",
                    count(*rows),
                    self.relation(*input),
                    self.order(keys)
                )
            }
            Relational::Window {
                input,
                partition,
                order,
                calls,
            } => {
                let items: Vec<String> = calls.iter().map(|of| self.call(of)).collect();
                for (call, text) in calls.iter().zip(&items) {
                    self.columns.insert(call.variable, text.clone());
                    if let Some(there) = call.there {
                        self.columns.insert(there, format!("there is {text}"));
                    }
                }
                let each = match partition.is_empty() {
                    true => "the whole".to_owned(),
                    false => format!("each ({})", self.list(partition)),
                };
                format!(
                    "window over {}: {} in {each}{}",
                    self.relation(*input),
                    items.join(", "),
                    self.order(order)
                )
            }
            Relational::Union { inputs, columns } => {
                for (at, variable) in columns.iter().enumerate() {
                    let mut of = inputs.iter().filter_map(|(_, of)| *of.get(at)?);
                    let name = of.next().map_or_else(String::new, |of| self.column(of));
                    self.columns.insert(*variable, name);
                }
                let names: Vec<String> = inputs
                    .iter()
                    .map(|(input, _)| self.relation(*input))
                    .collect();
                format!("rows of {}", names.join(", then of "))
            }
        }
    }

    fn guard(
        &self,
        input: usize,
        units: &[UnitGuard],
        cells: &[GuardedCell],
        keeps_rows: bool,
    ) -> String {
        let of = |unit: &UnitGuard| {
            let owner = self.parties.get(unit.owner).map_or("", String::as_str);
            format!("{} of {owner}: {}", unit.k, self.column(unit.rows))
        };
        let units_of: Vec<String> = units.iter().map(of).collect();
        let what = match keeps_rows {
            true => "all numbers",
            false => "rows",
        };
        let atoms = units.first().map_or(0, |unit| unit.atoms.len());
        let apart: Vec<Variable> = cells
            .iter()
            .filter(|cell| !cell.atoms.is_empty())
            .map(|cell| cell.value)
            .collect();
        let apart = match apart.is_empty() {
            true => String::new(),
            false => format!(
                "; {} only where each of {atoms} atoms has no unit or as many",
                self.list(&apart)
            ),
        };
        format!(
            "guard of {}: withholds {what} of fewer units than {}{apart}",
            self.relation(input),
            units_of.join(", ")
        )
    }

    /// ` by` the keys of an order; nothing without any.
    fn order(&self, keys: &[OrderKey]) -> String {
        let order: Vec<String> = keys
            .iter()
            .map(|key| {
                let direction = if key.ascending { "" } else { " descending" };
                format!("{}{direction}", self.column(key.variable))
            })
            .collect();
        match order.is_empty() {
            true => String::new(),
            false => format!(" by {}", order.join(", ")),
        }
    }

    fn call(&self, of: &WindowCall) -> String {
        use WindowFunction as F;
        let argument = of.argument.map(|variable| self.column(variable));
        let argument = argument.unwrap_or_else(|| "*".to_owned());
        let until = |name: &str, frame: Frame| match frame {
            Frame::Rows => format!("{name}({argument}) up to the row"),
            Frame::Range => format!("{name}({argument}) up to the row's equals"),
            Frame::Partition => format!("{name}({argument})"),
        };
        match of.function {
            F::RowNumber => "row_number()".to_owned(),
            F::Rank => "rank()".to_owned(),
            F::DenseRank => "dense_rank()".to_owned(),
            F::Lag { by } => format!("lag({argument}, {by})"),
            F::Lead { by } => format!("lead({argument}, {by})"),
            F::Count(frame) => until("count", frame),
            F::Sum(frame) => until("sum", frame),
            F::Min(frame) => until("min", frame),
            F::Max(frame) => until("max", frame),
        }
    }

    fn aggregate(&self, of: &Aggregate) -> String {
        let text = self.plain_aggregate(of);
        match of.when {
            None => text,
            Some(when) => format!("{text} where {}", self.column(when)),
        }
    }

    fn plain_aggregate(&self, of: &Aggregate) -> String {
        let argument = of.argument.map(|variable| self.column(variable));
        match (of.function, argument) {
            (AggregateKind::Count, None) => "count(*)".to_owned(),
            (AggregateKind::CountDistinct, Some(of)) => format!("count(distinct {of})"),
            (AggregateKind::Percentile { parts, digits }, Some(of)) => {
                let part = ScalarType::Decimal {
                    precision: 38,
                    scale: digits,
                };
                format!("percentile_cont({}, {of})", number(parts.into(), part))
            }
            (function, argument) => {
                let name = match function {
                    AggregateKind::Count | AggregateKind::CountDistinct => "count",
                    AggregateKind::Sum => "sum",
                    AggregateKind::Min => "min",
                    AggregateKind::Max => "max",
                    AggregateKind::Any => "any",
                    AggregateKind::Median => "median",
                    AggregateKind::Percentile { .. } => "percentile_cont",
                };
                format!("{name}({})", argument.unwrap_or_default())
            }
        }
    }

    fn expression(&self, of: &Expression, depth: usize) -> String {
        // A person does not read deeper, and stacks are finite.
        if depth > 32 {
            return "...".to_owned();
        }
        let depth = depth + 1;
        let list = |parts: &[Expression], word: &str| {
            let parts: Vec<String> = parts.iter().map(|of| self.expression(of, depth)).collect();
            format!("({})", parts.join(word))
        };
        match of {
            Expression::Column(variable) => self.column(*variable),
            Expression::Number { value, data_type } => number(*value, *data_type),
            Expression::Text { value, .. } => format!("'{}'", value.replace('\'', "''")),
            Expression::Null(_) => "NULL".to_owned(),
            Expression::Not(inner) => format!("NOT {}", self.expression(inner, depth)),
            Expression::All(parts) => list(parts, " AND "),
            Expression::Any(parts) => list(parts, " OR "),
            Expression::Compare {
                comparator,
                left,
                right,
            } => format!(
                "{} {} {}",
                self.expression(left, depth),
                sign(*comparator),
                self.expression(right, depth)
            ),
            Expression::IsNull(inner) => format!("{} IS NULL", self.expression(inner, depth)),
            Expression::Arithmetic {
                operation,
                left,
                right,
                ..
            } => {
                let sign = match operation {
                    Operation::Add => "+",
                    Operation::Subtract => "-",
                    Operation::Multiply => "*",
                };
                format!(
                    "({} {sign} {})",
                    self.expression(left, depth),
                    self.expression(right, depth)
                )
            }
            Expression::Rescale { input, .. } | Expression::Bits { input, .. } => {
                self.expression(input, depth)
            }
            Expression::Quotient { left, right, .. } => format!(
                "({} / {})",
                self.expression(left, depth),
                self.expression(right, depth)
            ),
            Expression::Case { when, otherwise } => {
                let mut text = "CASE".to_owned();
                for (condition, result) in when {
                    text.push_str(&format!(
                        " WHEN {} THEN {}",
                        self.expression(condition, depth),
                        self.expression(result, depth)
                    ));
                }
                format!("{text} ELSE {} END", self.expression(otherwise, depth))
            }
        }
    }
}

fn sign(comparator: Comparator) -> &'static str {
    match comparator {
        Comparator::Equal => "=",
        Comparator::NotEqual => "<>",
        Comparator::Less => "<",
        Comparator::LessEqual => "<=",
        Comparator::Greater => ">",
        Comparator::GreaterEqual => ">=",
    }
}

fn number(value: i128, data_type: ScalarType) -> String {
    match data_type {
        ScalarType::Bool => (value != 0).to_string(),
        ScalarType::Timestamp => i64::try_from(value)
            .ok()
            .and_then(arrow::temporal_conversions::timestamp_us_to_datetime)
            .map_or_else(|| value.to_string(), |time| format!("'{time}'")),
        ScalarType::Decimal { scale, .. } if scale > 0 => {
            let scale = usize::from(scale);
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let minus = if value < 0 { "-" } else { "" };
            format!("{minus}{whole}.{fraction}")
        }
        _ => value.to_string(),
    }
}
