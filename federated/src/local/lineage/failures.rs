//! What could fail on some rows and not on others: refused, because a failure would tell about the
//! rows, with no threshold in front of it.
//!
//! Looked at in the plan that the engine will run, after its own casts were put in. `CASE` runs a
//! branch only where there are rows for it, so a constant that always fails tells just as much.

use super::NotAllowed;
use crate::local::truncate::Unit;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

/// Positions and lengths in text that a fragment may name.
const MAX_POSITION: i64 = 1_000_000;
/// Literals beside which the absolute value of an integer may be taken.
const MAX_BESIDE: i64 = 1_000_000;
/// Digits that an unscaled decimal holds whatever they are.
const MAX_DIGITS: i32 = 38;
/// Fields of a date or timestamp that exist for every one.
const FIELDS: &[&str] = &[
    "year", "quarter", "month", "week", "day", "dow", "doy", "hour", "minute", "second",
];

/// Refuses a plan that some values of its columns could make fail.
pub(super) fn none(plan: &LogicalPlan) -> Result<(), NotAllowed> {
    let mut found = None;
    let walked = plan.apply(|node| {
        let inputs = node.inputs();
        let type_of = |expr: &Expr| {
            let types = |input: &&LogicalPlan| expr.get_type(input.schema()).ok();
            inputs.iter().find_map(types)
        };
        node.apply_expressions(|whole| {
            whole.apply(|expr| {
                let Some(construct) = failing(expr, &type_of) else {
                    return Ok(TreeNodeRecursion::Continue);
                };
                let column = expr.column_refs().iter().map(|of| of.name.clone()).min();
                found = Some(NotAllowed {
                    construct: construct.to_owned(),
                    column,
                });
                Ok(TreeNodeRecursion::Stop)
            })
        })
    });
    match (walked, found) {
        (Ok(_), None) => Ok(()),
        (_, Some(not)) => Err(not),
        (Err(_), None) => Err(NotAllowed::new("an expression that cannot be walked")),
    }
}

type Types<'a> = dyn Fn(&Expr) -> Option<DataType> + 'a;

/// What of this expression, its parts aside, can fail.
fn failing(expr: &Expr, type_of: &Types<'_>) -> Option<&'static str> {
    match expr {
        Expr::Cast(cast) => {
            let fits = match cast.expr.as_ref() {
                Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).is_ok(),
                inner => type_of(inner).is_some_and(|from| {
                    never_fails(&from, cast.field.data_type(), digits(inner, type_of))
                }),
            };
            (!fits).then_some("a cast that can fail")
        }
        Expr::BinaryExpr(binary) => arithmetic(binary, type_of),
        Expr::ScalarFunction(call) => function(call, type_of),
        Expr::Like(like) | Expr::SimilarTo(like) => constant(&like.pattern)
            .is_none()
            .then_some("LIKE with a pattern that is no literal"),
        _ => None,
    }
}

/// The value of a literal, signs and casts of it included.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Alias(alias) => constant(&alias.expr),
        Expr::Negative(inner) => constant(inner)?.arithmetic_negate().ok(),
        Expr::Cast(cast) => constant(&cast.expr)?.cast_to(cast.field.data_type()).ok(),
        _ => None,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match constant(expr)?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

fn function(call: &ScalarFunction, type_of: &Types<'_>) -> Option<&'static str> {
    if call.func.name() != "abs" {
        return unusual_arguments(call);
    }
    let fits = call.args.iter().all(|of| match type_of(of) {
        Some(DataType::Decimal128(..)) => true,
        Some(data_type) => data_type.is_integer() && modest(of),
        None => false,
    });
    (!fits).then_some("abs of an integer other than columns and small literals added")
}

/// What of a call's literals can make it fail.
pub(crate) fn unusual_arguments(call: &ScalarFunction) -> Option<&'static str> {
    let arguments = &call.args;
    let within = |expr: &Expr, least: i64| {
        integer(expr).is_some_and(|value| (least..=MAX_POSITION).contains(&value))
    };
    let name = |known: &dyn Fn(&str) -> bool| {
        let first = arguments.first().and_then(constant);
        first.is_some_and(|of| of.try_as_str().flatten().is_some_and(known))
    };
    match call.func.name() {
        "substr" => (!arguments.iter().skip(1).all(|of| within(of, 0)))
            .then_some("substr of a start or count that is no small positive literal"),
        "left" | "right" => (!arguments.iter().skip(1).all(|of| within(of, -MAX_POSITION)))
            .then_some("left or right of a length that is no small literal"),
        "date_part" => {
            let known = name(&|field| FIELDS.contains(&field.to_ascii_lowercase().as_str()));
            (!known).then_some("date_part of an unusual field")
        }
        "date_trunc" => {
            let known = name(&|unit| Unit::named(unit).is_some());
            (!known).then_some("date_trunc to an unusual unit")
        }
        _ => None,
    }
}

/// Columns and small literals, added and subtracted.
fn modest(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Negative(inner) => modest(inner),
        Expr::Cast(cast) => modest(&cast.expr),
        Expr::BinaryExpr(of) if matches!(of.op, Operator::Plus | Operator::Minus) => {
            modest(&of.left) && modest(&of.right)
        }
        other => integer(other).is_some_and(|value| (-MAX_BESIDE..=MAX_BESIDE).contains(&value)),
    }
}

/// Integers wrap around. Decimals fail where a result, or a side brought to the other's scale, has
/// too many digits.
fn arithmetic(of: &BinaryExpr, type_of: &Types<'_>) -> Option<&'static str> {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    if !matches!(of.op, Plus | Minus | Multiply | Divide | Modulo) {
        return None;
    }
    let scale = |expr: &Expr| match type_of(expr) {
        Some(DataType::Decimal128(_, scale)) => Some(i32::from(scale)),
        _ => None,
    };
    let (Some(left), Some(right)) = (scale(&of.left), scale(&of.right)) else {
        return None;
    };
    let (a, b) = (digits(&of.left, type_of), digits(&of.right, type_of));
    let most = result_digits(of.op, (a, left), (b, right));
    (most > MAX_DIGITS).then_some("decimal arithmetic that can overflow")
}

/// The most digits of a result, by the engine's rules, and of what it takes to get there.
fn result_digits(op: Operator, (a, left): (i32, i32), (b, right): (i32, i32)) -> i32 {
    let scale = left.max(right);
    let aligned = (a + scale - left).max(b + scale - right);
    match op {
        Operator::Multiply => a + b,
        // Four more digits after the point.
        Operator::Divide => (a + 4 + right).max(b),
        Operator::Modulo => aligned,
        _ => aligned + 1,
    }
}

/// The most digits of a decimal, the point left out.
fn digits(expr: &Expr, type_of: &Types<'_>) -> i32 {
    if let Some(ScalarValue::Decimal128(value, ..)) = constant(expr) {
        let value = value.map_or(0, i128::unsigned_abs);
        return value
            .checked_ilog10()
            .map_or(1, |log| log.cast_signed() + 1);
    }
    match expr {
        Expr::Alias(alias) => digits(&alias.expr, type_of),
        Expr::Negative(inner) => digits(inner, type_of),
        other => match type_of(other) {
            Some(DataType::Decimal128(precision, _)) => i32::from(precision),
            _ => MAX_DIGITS,
        },
    }
}

/// Whether every value of one type, with at most so many digits, can be cast to another.
fn never_fails(from: &DataType, to: &DataType, digits: i32) -> bool {
    use DataType::{
        Boolean, Date32, Decimal128, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Null,
        Timestamp, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    let whole = match from {
        Int8 | UInt8 => 3,
        Int16 | UInt16 => 5,
        Int32 | UInt32 => 10,
        Int64 => 19,
        _ => 0,
    };
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _) => true,
        (Utf8 | Utf8View | LargeUtf8, Utf8 | Utf8View | LargeUtf8) => true,
        (Boolean | Date32 | Timestamp(_, None) | Decimal128(..), Utf8 | Utf8View | LargeUtf8) => {
            true
        }
        // Scans let the years 1 to 9999 in alone.
        (Timestamp(TimeUnit::Microsecond, None), Date32) => true,
        (Decimal128(..), Float64) => true,
        (Decimal128(_, before), Decimal128(precision, after)) => {
            after >= before
                && digits + i32::from(*after) - i32::from(*before) <= i32::from(*precision)
        }
        (_, Decimal128(precision, scale)) if whole > 0 => {
            whole + i32::from(*scale) <= i32::from(*precision)
        }
        (_, Utf8 | Utf8View | LargeUtf8 | Float64 | Int64) => whole > 0,
        (Int8 | UInt8 | Int16 | UInt16, Int32) => true,
        _ => false,
    }
}
