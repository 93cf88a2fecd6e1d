//! Window functions as SQL text.

use super::{Source, Writer};
use crate::error::{Code, Error, Result};
use crate::plan::program::Frame;
use crate::planner::algebra::columns::ColumnId;
use crate::planner::algebra::{Over, SortKey, WindowCall};
use crate::planner::emit::{self, Place};
use datafusion::logical_expr::Expr;

impl Writer<'_> {
    /// Partition and order, as they stand in OVER.
    pub(super) fn over(
        &self,
        source: &Source,
        partition: &[ColumnId],
        order: &[SortKey],
    ) -> Result<String> {
        let keys = partition
            .iter()
            .map(|key| self.text(source, &key.expr()))
            .collect::<Result<Vec<_>>>()?;
        let partition = match keys.is_empty() {
            true => String::new(),
            false => format!("PARTITION BY {}", keys.join(", ")),
        };
        let order = self.order(source, order)?;
        Ok(match partition.is_empty() {
            true => order.trim_start().to_owned(),
            false => format!("{partition}{order}"),
        })
    }

    pub(super) fn call(&self, source: &Source, call: &WindowCall, over: &str) -> Result<String> {
        let argument = match call.argument {
            Some(argument) => self.text(source, &argument.expr())?,
            None => "*".to_owned(),
        };
        let shifted = |name: &str, by: u64| -> Result<String> {
            let default = match &call.default {
                None => String::new(),
                Some(value) => {
                    let literal = Expr::Literal(value.clone(), None);
                    let text = emit::emit(&literal, Place::Row, &|_| {
                        Err(Error::new(Code::Internal, "a literal that is a column"))
                    })?;
                    format!(", {text}")
                }
            };
            Ok(format!("{name}({argument}, {by}{default}) OVER ({over})"))
        };
        Ok(match call.function {
            Over::RowNumber => format!("ROW_NUMBER() OVER ({over})"),
            Over::Rank => format!("RANK() OVER ({over})"),
            Over::DenseRank => format!("DENSE_RANK() OVER ({over})"),
            Over::Lag(by) => shifted("LAG", by)?,
            Over::Lead(by) => shifted("LEAD", by)?,
            Over::Aggregate(function, frame) => {
                let frame = match frame {
                    Frame::Rows => "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                    Frame::Range => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
                    Frame::Partition => "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
                };
                let space = if over.is_empty() { "" } else { " " };
                let name = function.name().to_uppercase();
                format!("{name}({argument}) OVER ({over}{space}{frame})")
            }
        })
    }
}
