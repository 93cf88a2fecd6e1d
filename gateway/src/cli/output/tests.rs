//! The formats, golden: what users' scripts read must not drift.

use super::super::args::Format;
use super::Rows;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

fn rows() -> Rows {
    let decimals =
        Decimal128Array::from(vec![Some(123_456_789_012_345_678_901_i128), Some(-5), None])
            .with_precision_and_scale(38, 2)
            .unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "district",
            Arc::new(StringArray::from(vec![
                Some("Anhe"),
                Some("a \"b\", c"),
                None,
            ])),
        ),
        (
            "people",
            Arc::new(Int64Array::from(vec![
                Some(9_007_199_254_740_993),
                Some(10),
                None,
            ])),
        ),
        ("avg_income", Arc::new(decimals)),
        (
            "since",
            Arc::new(Date32Array::from(vec![Some(0), Some(-1), Some(20_453)])),
        ),
        (
            "low",
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ),
        (
            "mean",
            Arc::new(Float64Array::from(vec![Some(0.1), Some(2.0), None])),
        ),
    ];
    Rows::from_batch(
        RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        )
        .unwrap(),
    )
}

fn written(rows: &Rows, format: Format) -> String {
    let mut out = Vec::new();
    rows.write(format, 80, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn table() {
    let mut out = Vec::new();
    rows().write(Format::Table, 100, &mut out).unwrap();
    let expected = [
        " district             people               avg_income        since   low     mean",
        "──────────────────────────────────────────────────────────────────────────────────",
        " Anhe       9007199254740993   1234567890123456789.01   1970-01-01   true     0.1",
        " a \"b\", c                 10                    -0.05   1969-12-31   false    2.0",
        " NULL                   NULL                     NULL   2025-12-31   NULL    NULL",
        "",
    ]
    .join("\n");
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn csv() {
    assert_eq!(
        written(&rows(), Format::Csv),
        "district,people,avg_income,since,low,mean\n\
         Anhe,9007199254740993,1234567890123456789.01,1970-01-01,true,0.1\n\
         \"a \"\"b\"\", c\",10,-0.05,1969-12-31,false,2.0\n\
         ,,,2025-12-31,,\n"
    );
}

#[test]
fn json_keeps_every_digit() {
    let text = written(&rows(), Format::Json);
    assert_eq!(
        text,
        r#"[
  {"district": "Anhe", "people": 9007199254740993, "avg_income": 1234567890123456789.01, "since": "1970-01-01", "low": true, "mean": 0.1},
  {"district": "a \"b\", c", "people": 10, "avg_income": -0.05, "since": "1969-12-31", "low": false, "mean": 2.0},
  {"district": null, "people": null, "avg_income": null, "since": "2025-12-31", "low": null, "mean": null}
]
"#
    );
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed[1]["people"], 10);
}

#[test]
fn arrow_reads_back() {
    let rows = rows();
    let mut out = Vec::new();
    rows.write(Format::Arrow, 80, &mut out).unwrap();
    let back = Rows::from_ipc(&out).unwrap();
    assert_eq!(back.batches, rows.batches);
    assert!(Rows::from_ipc(&out[..out.len() / 2]).is_err());
    assert!(Rows::from_ipc(b"no stream").is_err());
}

#[test]
fn no_rows() {
    let schema = Arc::new(Schema::new(vec![Field::new(
        "people",
        DataType::Int64,
        false,
    )]));
    let rows = Rows {
        schema,
        batches: Vec::new(),
    };
    assert_eq!(written(&rows, Format::Json), "[]\n");
    assert_eq!(written(&rows, Format::Csv), "people\n");
    assert_eq!(
        written(&rows, Format::Table),
        " people\n────────\n (no rows)\n"
    );
}

#[test]
fn a_value_cannot_drive_the_terminal() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a\x1b[2Jb\nc"]));
    let rows = Rows::from_batch(RecordBatch::try_from_iter([("text", text)]).unwrap());
    let table = written(&rows, Format::Table);
    assert!(!table.contains('\x1b'));
    assert_eq!(table.lines().count(), 3);
}

#[test]
fn timestamps_are_days_and_times() {
    let times = TimestampMicrosecondArray::from(vec![
        Some(0),
        Some(-1),
        Some(1_709_251_199_500_000),
        Some(253_402_300_799_000_000),
        Some(-62_135_596_800_000_000),
        None,
    ]);
    let column: ArrayRef = Arc::new(times);
    let batch = RecordBatch::try_from_iter_with_nullable([("at", column, true)]).unwrap();
    assert_eq!(
        written(&Rows::from_batch(batch), Format::Csv),
        "at\n1970-01-01 00:00:00\n1969-12-31 23:59:59.999999\n2024-02-29 23:59:59.500000\n\
         9999-12-31 23:59:59\n0001-01-01 00:00:00\n\n"
    );
}
