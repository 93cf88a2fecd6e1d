//! The last step, over released values alone: HAVING, ORDER BY, LIMIT and the final projection.

use super::engine::{query, session};
use super::functions::{average, moment};
use super::sanitise::{arrow_error, engine_error};
use crate::error::{Code, Error, Result};
use crate::plan::{OutputColumn, output_schema};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};

use datafusion::datasource::MemTable;
use std::sync::Arc;

/// Memory for aggregates of groups.
const MEMORY: usize = 1 << 30;

/// Runs the release's SQL over the table `released` and delivers exactly the declared schema.
///
/// # Errors
/// `Overflow` for a value that does not fit its declared type; `Internal` when the SQL does not give
/// the declared columns, which a checked plan cannot do.
pub async fn post_process(
    released: RecordBatch,
    sql: &str,
    output: &[OutputColumn],
) -> Result<RecordBatch> {
    let context = session(MEMORY)?;
    context.register_udf(average());
    context.register_udf(moment());
    let table = MemTable::try_new(released.schema(), vec![vec![released]])
        .map_err(|error| engine_error(&error))?;
    context
        .register_table("released", Arc::new(table))
        .map_err(|error| engine_error(&error))?;
    let frame = query(&context, sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame
        .collect()
        .await
        .map_err(|error| engine_error(&error))?;
    let rows = concat_batches(&schema, &batches).map_err(|error| arrow_error(&error))?;
    deliver(&rows, output)
}

fn deliver(rows: &RecordBatch, output: &[OutputColumn]) -> Result<RecordBatch> {
    let undeclared = || {
        Error::new(
            Code::Internal,
            "the release does not give the declared columns",
        )
    };
    if rows.num_columns() != output.len() {
        return Err(undeclared());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let mut arrays = Vec::with_capacity(output.len());
    for (array, column) in rows.columns().iter().zip(output) {
        let data_type = column.data_type.to_arrow();
        let array =
            cast_with_options(array, &data_type, &options).map_err(|error| arrow_error(&error))?;
        if !column.nullable && array.null_count() > 0 {
            return Err(undeclared());
        }
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(output_schema(output), arrays, &options)
        .map_err(|_| undeclared())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::ScalarType;
    use arrow::array::{ArrayRef, Decimal128Array, Int64Array, StringArray};

    fn released() -> RecordBatch {
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some("a"), None]));
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(0), None]));
        let sums = Decimal128Array::from(vec![Some(1050), Some(-3), None])
            .with_precision_and_scale(24, 2)
            .unwrap();
        RecordBatch::try_from_iter_with_nullable([
            ("r0", keys, true),
            ("r1", counts, true),
            ("r2", Arc::new(sums) as ArrayRef, true),
        ])
        .unwrap()
    }

    fn column(name: &str, data_type: ScalarType) -> OutputColumn {
        OutputColumn {
            name: name.to_owned(),
            data_type,
            nullable: true,
        }
    }

    fn run(sql: &str, output: &[OutputColumn]) -> Result<RecordBatch> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap()
            .block_on(post_process(released(), sql, output))
    }

    #[test]
    fn having_order_and_limit_give_the_declared_columns() {
        let decimal = ScalarType::Decimal {
            precision: 30,
            scale: 3,
        };
        let output = [
            column("district", ScalarType::Utf8),
            column("sum(x)", decimal),
        ];
        let sql = "SELECT r0, r2 FROM released WHERE r1 >= 0 ORDER BY r0 LIMIT 1";
        let rows = run(sql, &output).unwrap();
        let sums = Decimal128Array::from(vec![-30])
            .with_precision_and_scale(30, 3)
            .unwrap();
        assert_eq!(rows.schema().field(1).name(), "sum(x)");
        assert_eq!(
            rows.column(0).as_ref(),
            &StringArray::from(vec!["a"]) as &dyn arrow::array::Array
        );
        assert_eq!(rows.column(1).as_ref(), &sums as &dyn arrow::array::Array);
        // No row at all has the declared columns too.
        let none = run("SELECT r0, r2 FROM released WHERE r1 > 99", &output).unwrap();
        assert_eq!((none.num_rows(), none.schema()), (0, rows.schema()));
    }

    #[test]
    fn failures_name_no_value() {
        let int = [column("x", ScalarType::Int64)];
        let small = ScalarType::Decimal {
            precision: 3,
            scale: 2,
        };
        for (sql, output, code) in [
            ("SELECT 100 / r1 FROM released", &int[..], Code::Overflow),
            (
                "SELECT r2 FROM released",
                &[column("x", small)],
                Code::Overflow,
            ),
            ("SELECT r0 FROM released", &int, Code::Overflow),
            ("SELECT r0, r1 FROM released", &int, Code::Internal),
            (
                "COPY released TO '/nowhere/x.csv'",
                &int,
                Code::TypeMismatch,
            ),
        ] {
            let error = run(sql, output).unwrap_err();
            assert_eq!(error.code, code, "{sql}: {error}");
            assert!(!error.message.contains("1050") && !error.message.contains("10.50"));
        }
        let strict = OutputColumn {
            nullable: false,
            ..column("x", ScalarType::Int64)
        };
        let error = run("SELECT r1 FROM released", &[strict]).unwrap_err();
        assert_eq!(error.code, Code::Internal);
    }
}
