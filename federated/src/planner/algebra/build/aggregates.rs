//! Groups and aggregates: statistics as expressions over sums, averages of integers as sums and counts.

use super::super::columns::{ColumnId, Info};
use super::super::functions::{Statistic, Sums, quotient, statistic};
use super::super::ranges::scale;
use super::super::{Aggregate, Function, Rel};
use super::{Builder, Built, one, unaliased};
use crate::error::Result;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction, Case};
use datafusion::logical_expr::{Aggregate as GroupNode, BinaryExpr, Expr, Operator};

impl Builder<'_> {
    pub(super) fn aggregate(&mut self, group: &GroupNode) -> Result<Built> {
        let input = self.plan(&group.input)?;
        let schema = group.input.schema();
        let mut rel = input.rel;
        let mut computed = Vec::new();
        let mut keys: Vec<ColumnId> = Vec::new();
        let mut output = Vec::new();
        for expr in &group.group_expr {
            if matches!(expr, Expr::GroupingSet(_)) {
                return Err(self.query.unsupported(
                    "GROUPING SETS, CUBE or ROLLUP",
                    &["GROUPING", "CUBE", "ROLLUP"],
                ));
            }
            let id = self.column(expr, schema, &input.output, &mut rel, &mut computed)?;
            if !keys.contains(&id) {
                keys.push(id);
            }
            output.push(id);
        }
        let mut aggregates: Vec<Aggregate> = Vec::new();
        let mut after = Vec::new();
        for (position, expr) in group.aggr_expr.iter().enumerate() {
            if let Some(made) =
                self.statistic(expr, schema, &input.output, &mut rel, &mut aggregates)?
            {
                let id = self.columns.compute(&made)?;
                after.push((id, made));
                output.push(id);
                continue;
            }
            if let Some(made) =
                self.percentile(expr, schema, &input.output, &mut rel, &mut aggregates)?
            {
                match ColumnId::of_expr(&made) {
                    Some(id) => output.push(id),
                    None => {
                        let id = self.columns.compute(&made)?;
                        after.push((id, made));
                        output.push(id);
                    }
                }
                continue;
            }
            let (function, argument) = self.call(expr, schema, &input.output, &mut rel)?;
            if function == Function::Avg
                && let Some(argument) = &argument
                && self.columns.type_of(argument)?.0.is_integer()
            {
                // Exact sums and counts; floating point only of what is opened.
                let sum = self.aggregate_id(&mut aggregates, Function::Sum, argument)?;
                let count = self.aggregate_id(&mut aggregates, Function::Count, argument)?;
                let average = quotient(sum.expr(), count.expr(), DataType::Float64);
                let id = self.columns.compute(&average)?;
                after.push((id, average));
                output.push(id);
                continue;
            }
            let known = aggregates
                .iter()
                .find(|known| known.function == function && known.argument == argument);
            if let Some(known) = known {
                output.push(known.id);
                continue;
            }
            let field = group.schema.field(group.group_expr.len() + position);
            let label = match &argument {
                Some(argument) => format!("{}({})", function.name(), self.columns.label(argument)),
                None => "count(*)".to_owned(),
            };
            let mut info = Info::new(field.data_type().clone(), field.is_nullable(), label);
            if let (Function::Min | Function::Max, Some(argument)) = (function, &argument) {
                info.most = self.columns.magnitude(argument);
                info.bytes = self.columns.text_bytes(argument);
                if let Some(of) = ColumnId::of_expr(argument) {
                    info.codes.clone_from(&self.columns.info(of)?.codes);
                }
            }
            let id = self.columns.add(info);
            aggregates.push(Aggregate {
                id,
                function,
                argument,
            });
            output.push(id);
        }
        Ok(Built {
            rel: Rel::Group {
                input: Box::new(rel.computing(computed)),
                keys,
                aggregates,
            }
            .computing(after),
            output,
        })
    }

    /// A variance, covariance or correlation as an expression over sums; none for another aggregate.
    fn statistic(
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
        let Some(of) = Statistic::from_name(func.name()) else {
            return Ok(None);
        };
        if params.distinct || !params.order_by.is_empty() {
            let upper = func.name().to_uppercase();
            let what = format!("{upper} with DISTINCT or ORDER BY");
            return Err(self.query.unsupported(&what, &[upper.as_str()]));
        }
        let mut arguments = Vec::new();
        for argument in &params.args {
            let mut argument = unaliased(self.expr(argument, schema, output, rel)?);
            if let Expr::Cast(cast) = &argument
                && *cast.field.data_type() == DataType::Float64
            {
                argument = cast.expr.as_ref().clone();
            }
            arguments.push(argument);
        }
        let (x, y) = match arguments.as_slice() {
            [x] => (x.clone(), x.clone()),
            [x, y] => (x.clone(), y.clone()),
            _ => return Ok(None),
        };
        for argument in [&x, &y] {
            if scale(&self.columns.type_of(argument)?.0).is_none() {
                let upper = func.name().to_uppercase();
                let what = format!("{upper} of anything but integers and decimals");
                return Err(self.query.unsupported(&what, &[upper.as_str()]));
            }
        }
        // Only rows where both are there, and where the filter holds.
        let mut conditions = Vec::new();
        for argument in [&x, &y] {
            if self.columns.type_of(argument)?.1 {
                conditions.push(Expr::IsNotNull(Box::new(argument.clone())));
            }
        }
        conditions.dedup();
        if let Some(filter) = &params.filter {
            conditions.push(self.expr(filter, schema, output, rel)?);
        }
        let condition = conditions.into_iter().reduce(|a, b| {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(a), Operator::And, Box::new(b)))
        });
        let when = |value: Expr| match &condition {
            None => value,
            Some(condition) => Expr::Case(Case::new(
                None,
                vec![(Box::new(condition.clone()), Box::new(value))],
                None,
            )),
        };
        let times = |a: &Expr, b: &Expr| {
            Expr::BinaryExpr(BinaryExpr::new(
                Box::new(a.clone()),
                Operator::Multiply,
                Box::new(b.clone()),
            ))
        };
        let sum = |this: &mut Self, of: Expr, list: &mut Vec<Aggregate>| {
            this.aggregate_id(list, Function::Sum, &when(of))
                .map(ColumnId::expr)
        };
        let n = self
            .aggregate_id(aggregates, Function::Count, &when(one()))?
            .expr();
        let sums = Sums {
            n,
            x: sum(self, x.clone(), aggregates)?,
            y: sum(self, y.clone(), aggregates)?,
            xx: sum(self, times(&x, &x), aggregates)?,
            yy: sum(self, times(&y, &y), aggregates)?,
            xy: sum(self, times(&x, &y), aggregates)?,
        };
        Ok(Some(statistic(of, &sums)))
    }

    /// An aggregate of numbers, added where it is not there yet.
    fn aggregate_id(
        &mut self,
        aggregates: &mut Vec<Aggregate>,
        function: Function,
        argument: &Expr,
    ) -> Result<ColumnId> {
        let known = aggregates
            .iter()
            .find(|known| known.function == function && known.argument.as_ref() == Some(argument));
        if let Some(known) = known {
            return Ok(known.id);
        }
        let label = format!("{}({})", function.name(), self.columns.label(argument));
        let nullable = function == Function::Sum;
        let data_type = match self.columns.type_of(argument)?.0 {
            DataType::Decimal128(precision, scale) if nullable => {
                DataType::Decimal128((precision + 10).min(38), scale)
            }
            _ => DataType::Int64,
        };
        let id = self.columns.add(Info::new(data_type, nullable, label));
        aggregates.push(Aggregate {
            id,
            function,
            argument: Some(argument.clone()),
        });
        Ok(id)
    }

    fn call(
        &mut self,
        expr: &Expr,
        schema: &DFSchema,
        output: &[ColumnId],
        rel: &mut Rel,
    ) -> Result<(Function, Option<Expr>)> {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else {
            return Err(self.query.unsupported("an aggregate of this query", &[]));
        };
        let name = func.name();
        let unsupported = |what: &str| {
            let upper = name.to_uppercase();
            self.query
                .unsupported(&format!("{upper}{what}"), &[upper.as_str()])
        };
        let function = match (name, params.distinct) {
            ("count", false) => Function::Count,
            ("count", true) => Function::CountDistinct,
            ("sum", false) => Function::Sum,
            ("avg", false) => Function::Avg,
            ("min", _) => Function::Min,
            ("max", _) => Function::Max,
            ("sum" | "avg", true) => return Err(unsupported("(DISTINCT ...)")),
            _ => return Err(unsupported(": use COUNT, SUM, AVG, MIN, MAX or MEDIAN")),
        };
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Err(unsupported(" with ORDER BY or IGNORE NULLS"));
        }
        let [argument] = params.args.as_slice() else {
            return Err(unsupported(" of several arguments"));
        };
        let argument = self.expr(argument, schema, output, rel)?;
        let mut argument = unaliased(argument);
        // The engine averages integers as floating point; sums of them are exact.
        if let (Function::Avg, Expr::Cast(cast)) = (function, &argument)
            && *cast.field.data_type() == DataType::Float64
            && self.columns.type_of(&cast.expr)?.0.is_integer()
        {
            argument = cast.expr.as_ref().clone();
        }
        let argument = match &params.filter {
            None => argument,
            Some(filter) => {
                let filter = self.expr(filter, schema, output, rel)?;
                Expr::Case(Case::new(
                    None,
                    vec![(Box::new(filter), Box::new(argument))],
                    None,
                ))
            }
        };
        let rows = function == Function::Count
            && matches!(&argument, Expr::Literal(value, _) if !value.is_null());
        Ok((function, (!rows).then_some(argument)))
    }
}
