//! Every type that a source can hold, as the type that the catalogue declares: exactly, rounded where
//! declared, or refused without a value; and joint answers over them equal to clear ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Decimal128Type, Int64Type, TimestampMicrosecondType};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use veilgate_federated::catalog::{Column, Format, Table, Unit, file, parse_type};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::local::{DataFusionEngine, LocalEngine, engine_config};
use veilgate_federated::plan::Operator;
use veilgate_federated::plan::explain::explain;
use veilgate_federated::policy::{AggregateFunction, Leakage, Rule, Use};
use veilgate_federated::testing::{Answer, Department, Federation, TableData, open_policy};

/// The column `x` of a file, as it is declared.
fn scan(file_name: &str, folder: &Path, declared: &str, sql: &str) -> Result<ArrayRef, Error> {
    let text = format!(
        "version = 1\ndepartment = \"tax\"\n[[tables]]\nname = \"t\"\nsource = \"{file_name}\"\n\
         unit = \"row\"\nmax_rows = 99\ncolumns = [{{ name = \"x\", {declared} }}]\n"
    );
    let catalog = file::parse(&text, "catalog.toml", folder)?;
    let expect = match sql {
        "x" => catalog.published.tables[0].columns[0].data_type,
        other => parse_type(other.split_once(':').unwrap().0).unwrap(),
    };
    let sql = sql.split_once(':').map_or(sql, |(_, sql)| sql);
    let sql = format!("SELECT {sql} AS c0 FROM t");
    let batches = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
        .block_on(DataFusionEngine::new(catalog).run(&sql, &[(expect, true)]))?;
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    Ok(Arc::clone(all.column(0)))
}

fn parquet(array: ArrayRef, declared: &str) -> Result<ArrayRef, Error> {
    let folder = tempfile::tempdir().unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([("x", array, true)]).unwrap();
    let file = File::create(folder.path().join("t.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    scan("t.parquet", folder.path(), declared, "x")
}

fn csv(values: &[&str], declared: &str) -> Result<ArrayRef, Error> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("x\n{}\n", values.join("\n"));
    std::fs::write(folder.path().join("t.csv"), text).unwrap();
    scan("t.csv", folder.path(), declared, "x")
}

#[test]
fn integers_of_every_width_are_widened() {
    let arrays: [ArrayRef; 7] = [
        Arc::new(Int8Array::from(vec![Some(-128), None])),
        Arc::new(Int16Array::from(vec![Some(-128), None])),
        Arc::new(Int32Array::from(vec![Some(-128), None])),
        Arc::new(Int64Array::from(vec![Some(-128), None])),
        Arc::new(UInt8Array::from(vec![Some(255), None])),
        Arc::new(UInt16Array::from(vec![Some(255), None])),
        Arc::new(UInt32Array::from(vec![Some(255), None])),
    ];
    for array in arrays {
        let due = if array.data_type().is_signed_integer() {
            -128
        } else {
            255
        };
        let name = array.data_type().to_string();
        let found = parquet(array, "type = \"int64\"").unwrap();
        let found = found.as_primitive::<Int64Type>();
        assert_eq!(found, &Int64Array::from(vec![Some(due), None]), "{name}");
    }
    let most = parquet(
        Arc::new(UInt32Array::from(vec![u32::MAX])),
        "type = \"int64\"",
    );
    let most = most.unwrap().as_primitive::<Int64Type>().value(0);
    assert_eq!(most, 4_294_967_295);
}

#[test]
fn unsigned_integers_of_64_bits_fit_or_are_decimals() {
    let fits = UInt64Array::from(vec![Some(9_223_372_036_854_775_807), None]);
    let found = parquet(Arc::new(fits), "type = \"int64\"").unwrap();
    assert_eq!(found.as_primitive::<Int64Type>().value(0), i64::MAX);
    let beyond: ArrayRef = Arc::new(UInt64Array::from(vec![1, 18_446_744_073_709_551_615]));
    let error = parquet(Arc::clone(&beyond), "type = \"int64\"").unwrap_err();
    assert_eq!(error.code, Code::BadSource);
    assert_eq!(
        error.message,
        "tax.t.x (t.parquet): some rows are not of the declared type int64"
    );
    let found = parquet(beyond, "type = \"decimal(20,0)\"").unwrap();
    let found = found.as_primitive::<Decimal128Type>();
    assert_eq!(found.values(), &[1, 18_446_744_073_709_551_615]);
}

#[test]
fn floats_are_fixed_point_where_declared_alone() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(0.1),
        Some(2.675),
        Some(-0.125),
        None,
    ]));
    let error = parquet(Arc::clone(&floats), "type = \"decimal(12,2)\"").unwrap_err();
    assert_eq!(error.code, Code::BadSource);
    assert_eq!(
        error.message,
        "tax.t: t.parquet: column x holds Float64, which does not fit the declared decimal(12,2); \
         declare `fixed_point = true` to have it rounded"
    );
    let declared = "type = \"decimal(12,2)\", fixed_point = true";
    let found = parquet(floats, declared).unwrap();
    let due = Decimal128Array::from(vec![Some(10), Some(267), Some(-13), None])
        .with_precision_and_scale(12, 2)
        .unwrap();
    assert_eq!(found.as_primitive::<Decimal128Type>(), &due);
    let singles = Arc::new(Float32Array::from(vec![1.5, 0.1]));
    let found = parquet(singles, "type = \"decimal(12,9)\", fixed_point = true").unwrap();
    // The value of the single, not of the text 0.1.
    let found = found.as_primitive::<Decimal128Type>();
    assert_eq!(found.values(), &[1_500_000_000, 100_000_001]);
    for (value, what) in [
        (f64::NAN, "are infinite or not a number"),
        (f64::INFINITY, "are infinite or not a number"),
        (12_345_678_901.0, "are beyond the 12 digits declared"),
        (1e300, "are beyond the 12 digits declared"),
    ] {
        let floats = Arc::new(Float64Array::from(vec![1.0, value]));
        let error = parquet(floats, declared).unwrap_err();
        assert_eq!(error.code, Code::BadSource);
        let due = format!("tax.t.x (t.parquet): some rows {what}");
        assert_eq!(error.message, due);
    }
    let error = parquet(
        Arc::new(Int64Array::from(vec![1])),
        "type = \"int64\", fixed_point = true",
    );
    let error = error.unwrap_err();
    assert_eq!(error.code, Code::BadConfig);
    assert!(error.message.ends_with("`fixed_point` is for decimal"));
}

#[test]
fn text_and_finer_decimals_are_fixed_point_where_declared_alone() {
    let values = [" 2.675", "-2.675", "1e-1", "7"];
    let error = csv(&values[..1], "type = \"decimal(12,2)\"").unwrap_err();
    assert!(
        error
            .message
            .ends_with("have more digits after the point than declared")
    );
    let declared = "type = \"decimal(12,2)\", fixed_point = true";
    let found = csv(&values, declared).unwrap();
    let found = found.as_primitive::<Decimal128Type>();
    assert_eq!(found.values(), &[268, -268, 10, 700]);
    for (value, what) in [
        ("NaN", "are infinite or not a number"),
        ("s3cr3t", "are not numbers"),
        ("99999999999", "are beyond the 12 digits declared"),
    ] {
        let error = csv(&[value], declared).unwrap_err();
        assert_eq!(error.code, Code::BadSource);
        let due = format!("tax.t.x (t.csv): some rows {what}");
        assert_eq!(error.message, due);
    }
    let fine = Decimal128Array::from(vec![12_345, 12_350, -12_350])
        .with_precision_and_scale(20, 4)
        .unwrap();
    let found = parquet(Arc::new(fine), declared).unwrap();
    let found = found.as_primitive::<Decimal128Type>();
    assert_eq!(found.values(), &[123, 124, -124]);
}

#[test]
fn timestamps_of_every_unit_are_microseconds() {
    let due = 1_709_251_199_000_000_i64;
    let (s, ms) = (due / 1_000_000, due / 1_000);
    let arrays: [ArrayRef; 6] = [
        Arc::new(TimestampSecondArray::from(vec![Some(s), None])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(ms), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(due), None])),
        Arc::new(TimestampNanosecondArray::from(vec![
            Some(due * 1_000),
            None,
        ])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(due), None]).with_timezone("UTC")),
        Arc::new(TimestampMillisecondArray::from(vec![Some(ms), None]).with_timezone("UTC")),
    ];
    for array in arrays {
        let name = array.data_type().to_string();
        let found = parquet(array, "type = \"timestamp\"").unwrap();
        let found = found.as_primitive::<TimestampMicrosecondType>();
        let due = TimestampMicrosecondArray::from(vec![Some(due), None]);
        assert_eq!(found, &due, "{name}");
    }
    let days = parquet(
        Arc::new(Date32Array::from(vec![-1])),
        "type = \"timestamp\"",
    );
    let days = days.unwrap();
    let day = days.as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(day, -86_400_000_000);
    let text = [
        "2024-02-29T23:59:59",
        "2024-02-29 23:59:59.000000",
        "2024-03-01",
        "9999-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
    ];
    let found = csv(&text, "type = \"timestamp\"").unwrap();
    let found = found.as_primitive::<TimestampMicrosecondType>();
    assert_eq!(
        found.values(),
        &[
            due,
            due,
            due + 1_000_000,
            253_402_300_799_999_999,
            -62_135_596_800_000_000
        ]
    );
}

#[test]
fn timestamps_that_have_no_exact_form_are_refused() {
    let declared = "type = \"timestamp\"";
    let cases: [(ArrayRef, &str); 4] = [
        (
            Arc::new(TimestampNanosecondArray::from(vec![1_001])),
            "are finer than a microsecond",
        ),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])),
            "are outside of the years 1 to 9999",
        ),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![
                253_402_300_800_000_000,
            ])),
            "are outside of the years 1 to 9999",
        ),
        (
            Arc::new(TimestampMillisecondArray::from(vec![i64::MAX])),
            "are not of the declared type timestamp",
        ),
    ];
    for (array, what) in cases {
        let error = parquet(array, declared).unwrap_err();
        assert_eq!(error.code, Code::BadSource, "{error}");
        let due = format!("tax.t.x (t.parquet): some rows {what}");
        assert_eq!(error.message, due);
    }
    for (text, what) in [
        (
            "2024-02-29T23:59:59Z",
            "have a time zone: timestamps have none",
        ),
        (
            "2024-02-29 23:59:59+08:00",
            "have a time zone: timestamps have none",
        ),
        (
            "2024-02-29 23:59:59.0000001",
            "are finer than a microsecond",
        ),
        (
            "2023-02-29 23:59:59",
            "are not of the declared type timestamp",
        ),
    ] {
        let error = csv(&[text], declared).unwrap_err();
        let due = format!("tax.t.x (t.csv): some rows {what}");
        assert_eq!(
            (error.code, error.message),
            (Code::BadSource, due),
            "{text}"
        );
    }
    let error = parquet(Arc::new(Int64Array::from(vec![1])), declared).unwrap_err();
    assert!(
        error
            .message
            .ends_with("holds Int64, which does not fit the declared timestamp")
    );
}

#[test]
fn functions_of_timestamps_do_not_fail_on_any_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let text = "x\n9999-12-31 23:59:59\n0001-01-01\n2024-05-17 11:12:13.5\n";
    std::fs::write(folder.path().join("t.csv"), text).unwrap();
    let run = |sql: &str| scan("t.csv", folder.path(), "type = \"timestamp\"", sql);
    let quarters = run("timestamp:date_trunc('quarter', x)").unwrap();
    assert_eq!(
        quarters
            .as_primitive::<TimestampMicrosecondType>()
            .values()
            .iter()
            .map(|micros| micros.div_euclid(86_400_000_000))
            .collect::<Vec<_>>(),
        [2_932_805, -719_162, 19_814]
    );
    let days = run("date:CAST(x AS DATE)").unwrap();
    let days = days.as_primitive::<Date32Type>();
    assert_eq!(days.values(), &[2_932_896, -719_162, 19_860]);
    let later = run("bool:x > TIMESTAMP(6) '9999-01-01 00:00:00'").unwrap();
    assert_eq!(later.as_boolean().true_count(), 1);
}

/// What the departments store, and what it means to the engine in the clear.
struct World {
    federation: Federation,
    clear: SessionContext,
    _folder: tempfile::TempDir,
}

fn column(name: &str, data_type: &str) -> Column {
    let nullable = name != "id";
    let json = serde_json::json!({ "name": name, "type": data_type, "nullable": nullable });
    serde_json::from_value(json).unwrap()
}

/// A department's table `t` of these columns: as declared, as stored, as meant.
type Given = (&'static str, Vec<(Column, ArrayRef, ArrayRef)>);

fn world(given: Vec<Given>, leakage: Leakage) -> World {
    let folder = tempfile::tempdir().unwrap();
    let clear = SessionContext::new_with_config(engine_config());
    let mut departments = vec![Department::neutral("bureau")];
    let seats = vec![["bureau", "customs", "tax"].map(str::to_owned)];
    for (name, columns) in given {
        let rows = |meant: bool| {
            let of = columns.iter().map(|(column, stored, clean)| {
                let array = if meant { clean } else { stored };
                (column.name.clone(), Arc::clone(array), true)
            });
            RecordBatch::try_from_iter_with_nullable(of).unwrap()
        };
        let memory = MemTable::try_new(rows(true).schema(), vec![vec![rows(true)]]).unwrap();
        let schema = MemorySchemaProvider::new();
        schema
            .register_table("t".to_owned(), Arc::new(memory))
            .unwrap();
        let catalog = clear.catalog("datafusion").unwrap();
        catalog.register_schema(name, Arc::new(schema)).unwrap();
        let table = Table {
            name: "t".to_owned(),
            description: String::new(),
            key: vec!["id".to_owned()],
            unit: Unit::Row,
            max_rows: 16,
            columns: columns.iter().map(|(column, ..)| column.clone()).collect(),
        };
        let mut policy = open_policy(name, &["t"], 1, leakage, seats.clone());
        for permits in [
            Use::Output,
            Use::Aggregate(AggregateFunction::Min),
            Use::Aggregate(AggregateFunction::Max),
        ] {
            policy.rules.push(Rule {
                name: format!("{name}.t.*/{permits}"),
                table: "t".to_owned(),
                column: "*".to_owned(),
                permits,
                k: 1,
                leakage,
                recipients: vec![],
            });
        }
        departments.push(Department {
            name: name.to_owned(),
            tables: vec![TableData {
                table,
                rows: rows(false),
                format: Format::Parquet,
            }],
            policy: Some(policy),
        });
    }
    World {
        federation: Federation::new(folder.path(), departments).unwrap(),
        clear,
        _folder: folder,
    }
}

fn lines(batch: &RecordBatch) -> Vec<String> {
    let options = arrow::util::display::FormatOptions::default().with_null("NULL");
    (0..batch.num_rows())
        .map(|row| {
            let cells = batch.columns().iter().map(|column| {
                let cell = arrow::util::display::ArrayFormatter::try_new(column, &options);
                cell.unwrap().value(row).to_string()
            });
            cells.collect::<Vec<_>>().join("|")
        })
        .collect()
}

impl World {
    /// The answer, which is the clear engine's too.
    fn equal(&mut self, sql: &str) -> Answer {
        let answer = self.federation.run_query(sql, "tax", None);
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let clear = runtime.block_on(async {
            // The engine's own literals are in nanoseconds, which do not reach every year.
            let sql = sql.replace("TIMESTAMP '", "TIMESTAMP(6) '");
            let frame = self.clear.sql(&sql).await.unwrap();
            let schema = Arc::new(frame.schema().as_arrow().clone());
            concat_batches(&schema, &frame.collect().await.unwrap()).unwrap()
        });
        assert!(clear.num_rows() > 0, "{sql} shows nothing");
        assert_eq!(lines(&answer.batch), lines(&clear), "{sql}");
        answer
    }
}

/// Timestamps around 1970 and far from it, narrow and unsigned integers, floats; both departments with
/// the same ids but other units.
fn typed(leakage: Leakage) -> World {
    let at = [
        -1,
        0,
        1_709_251_199_999_999,
        1_709_251_200_000_000,
        253_402_300_799_999_999,
        -62_135_596_800_000_000,
    ];
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(at.to_vec()));
    let seconds: Vec<i64> = at.iter().map(|v| v.div_euclid(1_000_000)).collect();
    let floored: Vec<i64> = seconds.iter().map(|v| v * 1_000_000).collect();
    let ids: ArrayRef = Arc::new(Int16Array::from(vec![1, 2, 3, 4, 5, 6]));
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5, 6]));
    let codes: ArrayRef = Arc::new(UInt8Array::from(vec![200, 200, 7, 7, 7, 255]));
    let wide_codes: ArrayRef = Arc::new(Int64Array::from(vec![200, 200, 7, 7, 7, 255]));
    let huge: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1, 2, 3, 4, 5]));
    let decimals = |values: Vec<Option<i128>>, precision, scale| -> ArrayRef {
        let array = Decimal128Array::from(values);
        Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
    };
    let meant_huge = [u64::MAX, 1, 2, 3, 4, 5].map(|v| Some(v.into())).to_vec();
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(0.125),
        Some(-0.125),
        Some(1e-9),
        None,
        Some(1234.5678),
        Some(2.675),
    ]));
    let fixed = [Some(13), Some(-13), Some(0), None, Some(123_457), Some(267)].to_vec();
    let level = Column {
        fixed_point: true,
        ..column("level", "decimal(12,2)")
    };
    world(
        vec![
            (
                "customs",
                vec![
                    (column("id", "int64"), Arc::clone(&ids), Arc::clone(&wide)),
                    (column("at", "timestamp"), Arc::clone(&micros), micros),
                    (column("code", "int64"), codes, wide_codes),
                    (level, floats, decimals(fixed, 12, 2)),
                ],
            ),
            (
                "tax",
                vec![
                    (column("id", "int64"), ids, wide),
                    (
                        column("at", "timestamp"),
                        Arc::new(TimestampSecondArray::from(seconds)),
                        Arc::new(TimestampMicrosecondArray::from(floored)),
                    ),
                    (
                        column("huge", "decimal(20,0)"),
                        huge,
                        decimals(meant_huge, 20, 0),
                    ),
                ],
            ),
        ],
        leakage,
    )
}

#[test]
fn joint_answers_over_every_type_equal_clear_ones() {
    for leakage in [Leakage::Sizes, Leakage::None] {
        let mut world = typed(leakage);
        for sql in [
            // A join key, a result, an order.
            "SELECT c.at AS at, c.code AS code, t.huge AS huge FROM customs.t c JOIN \
             (SELECT at, MIN(huge) AS huge FROM tax.t GROUP BY at) t ON c.at = t.at ORDER BY at",
            // Comparison across departments, and with literals that nanoseconds do not reach.
            "SELECT c.id AS id, c.at AS at FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE c.at > t.at AND c.at < TIMESTAMP '9999-12-31 23:59:59.999999' \
             ORDER BY c.at DESC LIMIT 2",
            "SELECT c.id AS id FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE CASE WHEN t.huge > 2 THEN c.at ELSE t.at END >= TIMESTAMP '2024-03-01' \
             ORDER BY id",
            // Group keys, minima and maxima.
            "SELECT date_trunc('month', c.at) AS m, COUNT(*) AS n, SUM(t.huge) AS s FROM customs.t c \
             JOIN tax.t t ON c.id = t.id WHERE c.id BETWEEN 1 AND 4 GROUP BY date_trunc('month', c.at) \
             ORDER BY m",
            "SELECT c.code AS code, MIN(t.at) AS low, MAX(t.at) AS high, COUNT(DISTINCT t.at) AS n \
             FROM customs.t c JOIN tax.t t ON c.id = t.id GROUP BY c.code ORDER BY code",
            "SELECT c.at AS at, COUNT(*) AS n, SUM(c.level) AS s, AVG(c.level) AS a FROM customs.t c \
             JOIN tax.t t ON c.id = t.id GROUP BY c.at ORDER BY at",
            "SELECT CAST(c.at AS DATE) AS d, date_part('hour', c.at) AS h, SUM(t.id * c.code) AS s \
             FROM customs.t c JOIN tax.t t ON c.id = t.id GROUP BY CAST(c.at AS DATE), \
             date_part('hour', c.at) ORDER BY d, h",
            // Days among timestamps: a literal, and a cast.
            "SELECT c.id AS id, t.at AS at FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE c.at >= DATE '2024-03-01' AND CAST(t.at AS DATE) >= DATE '2024-01-01' ORDER BY id",
            "SELECT c.id AS id FROM customs.t c JOIN tax.t t ON c.id = t.id \
             WHERE c.at BETWEEN TIMESTAMP '1969-12-31' AND TIMESTAMP '2024-02-29 23:59:59.999999' \
             AND t.at IN (TIMESTAMP '1970-01-01', TIMESTAMP '2024-02-29 23:59:59') ORDER BY id",
            // Fixed point and unsigned sums.
            "SELECT SUM(c.level) AS s, SUM(t.huge) AS h, MAX(c.level) AS m, MIN(c.code) AS l \
             FROM customs.t c JOIN tax.t t ON c.id = t.id WHERE c.level <> 0.13 OR t.id = 1",
            "SELECT at, COUNT(*) AS n FROM (SELECT at FROM customs.t UNION ALL SELECT at FROM tax.t) \
             AS u GROUP BY at ORDER BY at",
        ] {
            world.equal(sql);
        }
    }
}

#[test]
fn explain_shows_types_and_the_error_bound() {
    let mut world = typed(Leakage::Sizes);
    let answer = world.equal(
        "SELECT c.at AS at, c.level AS level FROM customs.t c JOIN tax.t t ON c.id = t.id \
         WHERE c.at < TIMESTAMP '2000-01-01 12:00:00' ORDER BY at",
    );
    let plan = &answer.planned.plan;
    assert!(matches!(plan.operators.last(), Some(Operator::Program(_))));
    let text = explain(&answer.planned, &[]);
    assert!(text.contains("level ±0.005"), "{text}");
    assert!(
        text.contains("TIMESTAMP(6) '2000-01-01T12:00:00'"),
        "{text}"
    );
    let joint = world.federation.plan(
        "SELECT c.id AS id FROM customs.t c JOIN tax.t t ON c.id = t.id WHERE \
         CASE WHEN t.huge > c.id THEN c.at ELSE t.at END >= TIMESTAMP '2024-03-01 00:00:00.5'",
        "tax",
        None,
    );
    let text = explain(&joint.unwrap(), &[]);
    assert!(text.contains("'2024-03-01 00:00:00.500'"), "{text}");
    let block = world.federation.plan(
        "SELECT SUM(c.level) AS s FROM customs.t c JOIN tax.t t ON c.id = t.id",
        "tax",
        None,
    );
    let text = explain(&block.unwrap(), &[]);
    assert!(text.contains("level ±0.005"), "{text}");
}

#[test]
fn a_cast_that_can_fail_on_data_is_refused() {
    let world = typed(Leakage::Sizes);
    let refused = |sql: &str| {
        let planned = world.federation.plan(sql, "tax", None);
        planned
            .and_then(|planned| world.federation.check(&planned.plan, "tax"))
            .unwrap_err()
    };
    let error = refused(
        "SELECT COUNT(*) AS n FROM customs.t c JOIN tax.t t ON c.id = t.id \
         WHERE date_trunc('fortnight', c.at) < c.at",
    );
    assert_eq!(error.code, Code::PolicyDenied, "{error}");
    assert!(error.message.contains("date_trunc"), "{error}");
    // Not every date is a timestamp.
    let error = refused(
        "SELECT COUNT(*) AS n FROM customs.t c JOIN tax.t t ON c.id = t.id \
         WHERE c.at < CAST(CAST(c.at AS DATE) AS TIMESTAMP)",
    );
    assert_eq!(error.code, Code::PolicyDenied, "{error}");
    assert!(error.message.contains("a cast"), "{error}");
    let error = refused("SELECT at FROM customs.t WHERE at < TIMESTAMP 's3cr3t'");
    assert!(!error.message.contains("s3cr3t"), "{error}");
}

#[test]
fn starters_declare_what_files_hold() {
    let folder = tempfile::tempdir().unwrap();
    let text = "id,at,day\n1,2024-02-29 10:00:00,2024-02-29\n2,2024-03-01T00:00:00.5,2024-03-01\n";
    std::fs::write(folder.path().join("a.csv"), text).unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        (
            "at",
            Arc::new(TimestampMillisecondArray::from(vec![1, 2]).with_timezone("UTC")),
        ),
        ("huge", Arc::new(UInt64Array::from(vec![1, u64::MAX]))),
        ("large", Arc::new(UInt64Array::from(vec![1, 2]))),
        ("level", Arc::new(Float32Array::from(vec![0.5, 0.25]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file_at = File::create(folder.path().join("b.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file_at, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    veilgate_federated::catalog::infer::write_starter(folder.path(), "tax").unwrap();
    let catalog = file::load(folder.path()).unwrap();
    let types: Vec<String> = catalog
        .published
        .tables
        .iter()
        .flat_map(|table| &table.columns)
        .map(|of| format!("{} {} {}", of.name, of.data_type, of.fixed_point))
        .collect();
    assert_eq!(
        types,
        [
            "id int64 false",
            "at timestamp false",
            "day date false",
            "at timestamp false",
            "huge decimal(20,0) false",
            "large int64 false",
            "level decimal(10,2) true"
        ]
    );
    // What is declared is what can be read.
    let engine = DataFusionEngine::new(catalog);
    let expect = [(parse_type("decimal(10,2)").unwrap(), true)];
    let rows = tokio::runtime::Builder::new_multi_thread()
        .build()
        .unwrap()
        .block_on(engine.run("SELECT level AS c0 FROM b", &expect));
    let rows = rows.unwrap();
    let level = rows[0].column(0).as_primitive::<Decimal128Type>();
    assert_eq!(level.values(), &[50, 25]);
}
