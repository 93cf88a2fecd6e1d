//! Scans: one column of one file, declared.

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Date32Type, Decimal128Type, Int64Type, TimestampMicrosecondType};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use veilgate_federated::catalog::{file, parse_type};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::local::{DataFusionEngine, LocalEngine};

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
    let units = "tables.a.unit = \"row\"\ntables.b.unit = \"row\"\n";
    std::fs::write(folder.path().join("catalog.toml"), units).unwrap();
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
