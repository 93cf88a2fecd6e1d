//! MEDIAN and percentiles, as the engine has them: exact decimals, which are rounded to floating point
//! only in the result.

use super::{Builder, unaliased};
use crate::error::Result;
use crate::planner::algebra::columns::{ColumnId, Info};
use crate::planner::algebra::ranges::scale;
use crate::planner::algebra::{Aggregate, Function, Rel};
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, Case};
use datafusion::logical_expr::{Expr, cast};

/// Digits of an integer.
const INTEGER_DIGITS: u8 = 19;
/// A percentile is given in millionths. The engine truncates how far it is between two values to as many
/// digits too, but after arithmetic in floating point, so that its own result can be off by a millionth of
/// the distance between the two; of multiples of 1/64 it is the exact one.
const MILLION: f64 = 1_000_000.0;

impl Builder<'_> {
    /// A median or percentile as an expression over aggregates; none for another aggregate.
    pub(super) fn percentile(
        &mut self,
        expr: &Expr,
        schema: &DFSchema,
        output: &[ColumnId],
        rel: &mut Rel,
        aggregates: &mut Vec<Aggregate>,
    ) -> Result<Option<Expr>> {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else {
            return Ok(None);
        };
        let name = func.name();
        // The engine takes the ends for the least and the greatest, of floating point.
        let extreme = match name {
            "median" | "percentile_cont" => None,
            "min" => Some(Function::Min),
            "max" => Some(Function::Max),
            _ => return Ok(None),
        };
        let Some(argument) = params.args.first() else {
            return Ok(None);
        };
        let argument = unaliased(self.expr(argument, schema, output, rel)?);
        let (argument, rounded) = self.exact(argument)?;
        if extreme.is_some() && !rounded {
            return Ok(None);
        }
        let upper = name.to_uppercase();
        let refuse = |what: &str| {
            self.query
                .unsupported(&format!("{upper}{what}"), &[upper.as_str()])
        };
        let orders = params.order_by.len();
        if params.distinct
            || params.null_treatment.is_some()
            || orders > usize::from(name == "percentile_cont")
        {
            return Err(refuse(" with DISTINCT, ORDER BY or IGNORE NULLS"));
        }
        let (of, _) = self.columns.type_of(&argument)?;
        let Some(digits_of) = scale(&of) else {
            return Err(refuse(" of anything but integers and decimals"));
        };
        let function = match (extreme, name, rounded) {
            (Some(extreme), ..) => extreme,
            (None, "median", false) => Function::Median,
            (None, "median", true) => Function::HALF,
            _ => match fraction(params) {
                Some(function) => function,
                None => {
                    return Err(refuse(
                        " of anything but a literal from 0 to 1 with at most 6 digits after the point",
                    ));
                }
            },
        };
        let (more, most) = match function {
            Function::Percentile { digits, .. } => (digits, 10_u128.pow(u32::from(digits))),
            _ => (0, 1),
        };
        let most = self
            .columns
            .magnitude(&argument)
            .and_then(|of| of.checked_mul(most));
        let has = match &of {
            DataType::Decimal128(precision, _) => *precision,
            _ => INTEGER_DIGITS,
        };
        // Sums of two values have to fit.
        let fits = most.is_some_and(|most| most < 1 << 126) && has + more <= 38;
        let data_type = match extreme {
            Some(_) => of,
            None if fits => DataType::Decimal128(
                has + more,
                i8::try_from(digits_of + more).unwrap_or(i8::MAX),
            ),
            None => return Err(refuse(" of numbers of that many digits")),
        };
        let argument = match &params.filter {
            None => argument,
            Some(filter) => {
                let filter = self.expr(filter, schema, output, rel)?;
                let when = vec![(Box::new(filter), Box::new(argument))];
                Expr::Case(Case::new(None, when, None))
            }
        };
        let known = aggregates
            .iter()
            .find(|known| known.function == function && known.argument.as_ref() == Some(&argument));
        let id = match known {
            Some(known) => known.id,
            None => {
                let label = format!("{}({})", function.name(), self.columns.label(&argument));
                let mut info = Info::new(data_type, true, label);
                info.most = most;
                let id = self.columns.add(info);
                aggregates.push(Aggregate {
                    id,
                    function,
                    argument: Some(argument),
                });
                id
            }
        };
        Ok(Some(match function {
            Function::Median => id.expr(),
            _ => cast(id.expr(), DataType::Float64),
        }))
    }

    /// The integer or decimal that the engine has made floating point, and whether it has.
    fn exact(&self, argument: Expr) -> Result<(Expr, bool)> {
        if let Expr::Cast(cast) = &argument
            && *cast.field.data_type() == DataType::Float64
            && scale(&self.columns.type_of(&cast.expr)?.0).is_some()
        {
            return Ok((cast.expr.as_ref().clone(), true));
        }
        Ok((argument, false))
    }
}

/// Which percentile is asked for; none for what is no literal from 0 to 1 of at most six digits.
fn fraction(params: &AggregateFunctionParams) -> Option<Function> {
    let literal = match params.args.get(1)? {
        Expr::Literal(value, _) => value.clone(),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.clone(),
            _ => return None,
        },
        _ => return None,
    };
    let Ok(ScalarValue::Float64(Some(given))) = literal.cast_to(&DataType::Float64) else {
        return None;
    };
    let descending = params.order_by.first().is_some_and(|key| !key.asc);
    let of = if descending { 1.0 - given } else { given };
    let millionths = (of * MILLION).round();
    if !(0.0..=MILLION).contains(&millionths) || (of * MILLION - millionths).abs() > 1e-6 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // a whole number up to a million
    let (mut parts, mut digits) = (millionths as u32, 6_u8);
    while digits > 1 && parts % 10 == 0 {
        parts /= 10;
        digits -= 1;
    }
    Some(Function::Percentile { parts, digits })
}
