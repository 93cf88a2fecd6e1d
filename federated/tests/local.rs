//! Fragments over real files: CSV and Parquet alike, every bad source by its own words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use veilgate_federated::catalog::{Catalog, file};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::local::encode::{EncodedFragment, Values, encode};
use veilgate_federated::local::{DataFusionEngine, LocalEngine};
use veilgate_federated::plan::{Encoding, FragmentColumn};
use veilgate_federated::schema::ScalarType;

const DECIMAL: ScalarType = ScalarType::Decimal {
    precision: 12,
    scale: 2,
};

fn catalog(folder: &Path, tables: &str) -> Catalog {
    let text = format!("version = 1\ndepartment = \"tax\"\n{tables}");
    file::parse(&text, "catalog.toml", folder).unwrap()
}

fn table(source: &str, extra: &str, columns: &str) -> String {
    let name = source.split('.').next().unwrap();
    format!(
        "[[tables]]\nname = \"{name}\"\nsource = \"{source}\"\nunit = \"row\"\n{extra}\ncolumns = [{columns}]\n"
    )
}

fn run_on(
    engine: &DataFusionEngine,
    sql: &str,
    expect: &[(ScalarType, bool)],
) -> Result<Vec<RecordBatch>, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
        .block_on(engine.run(sql, expect))
}

fn one(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).unwrap()
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None)
            .unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// A row: id, int, decimal in cents, day, flag, text.
type Row = (
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i32>,
    Option<bool>,
    Option<String>,
);

const COLUMNS: &str = r#"
{ name = "id", type = "utf8", canonical = ["nfc", "trim", "upper"], max_bytes = 31 },
{ name = "n", type = "int64" },
{ name = "amount", type = "decimal(12,2)" },
{ name = "day", type = "date" },
{ name = "flag", type = "bool" },
{ name = "note", type = "utf8", max_bytes = 31 },
"#;

fn row() -> impl Strategy<Value = Row> {
    use proptest::option::of;
    (
        of("[ ]{0,1}[a-fA-F0-9é]{1,6}[ ]{0,1}"),
        of(prop_oneof![any::<i64>(), -5_i64..5]),
        of(-999_999_999_999_i64..=999_999_999_999),
        of(-50_000_i32..50_000),
        of(any::<bool>()),
        of("[a-z ,\"\n名é]{1,9}"),
    )
}

fn csv_field(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn csv(rows: &[Row]) -> String {
    let mut text = String::from("id,n,Amount,day,flag,note\n");
    for (id, n, amount, day, flag, note) in rows {
        let amount = amount.map(|cents| {
            let sign = if cents < 0 { "-" } else { "" };
            let cents = cents.unsigned_abs();
            format!("{sign}{}.{:02}", cents / 100, cents % 100)
        });
        let day = day.map(|day| {
            arrow::temporal_conversions::date32_to_datetime(day)
                .unwrap()
                .format("%Y-%m-%d")
                .to_string()
        });
        let fields = [
            id.as_deref().map(csv_field),
            n.map(|n| n.to_string()),
            amount,
            day,
            flag.map(|flag| flag.to_string()),
            note.as_deref().map(csv_field),
        ];
        text.push_str(&fields.map(Option::unwrap_or_default).join(","));
        text.push('\n');
    }
    text
}

fn batch(rows: &[Row]) -> RecordBatch {
    let amount: Decimal128Array = rows.iter().map(|row| row.2.map(i128::from)).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "ID",
            Arc::new(
                rows.iter()
                    .map(|row| row.0.as_deref())
                    .collect::<StringArray>(),
            ),
            true,
        ),
        (
            "n",
            Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
            true,
        ),
        (
            "amount",
            Arc::new(amount.with_precision_and_scale(12, 2).unwrap()),
            true,
        ),
        (
            "day",
            Arc::new(rows.iter().map(|row| row.3).collect::<Date32Array>()),
            true,
        ),
        (
            "flag",
            Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>()),
            true,
        ),
        (
            "note",
            Arc::new(
                rows.iter()
                    .map(|row| row.5.as_deref())
                    .collect::<StringArray>(),
            ),
            true,
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn columns() -> Vec<FragmentColumn> {
    let column = |data_type, encoding| FragmentColumn {
        data_type,
        nullable: true,
        encoding,
        label: "column".to_owned(),
    };
    vec![
        column(ScalarType::Utf8, Encoding::KeyTag { class: 0, bits: 80 }),
        column(ScalarType::Int64, Encoding::Ring64),
        column(DECIMAL, Encoding::Ring128),
        column(ScalarType::Date, Encoding::Bits(32)),
        column(ScalarType::Bool, Encoding::Bits(1)),
        column(ScalarType::Utf8, Encoding::Text { max_bytes: 31 }),
    ]
}

/// The encoded rows, in a form that compares.
fn rows_of(encoded: &EncodedFragment) -> Vec<Vec<(bool, Vec<u8>)>> {
    let mut rows: Vec<_> = (0..encoded.rows)
        .map(|row| {
            encoded
                .columns
                .iter()
                .map(|column| {
                    let bytes = match &column.values {
                        Values::Ring64(values) => values[row].to_le_bytes().to_vec(),
                        Values::Ring128(values) => values[row].to_le_bytes().to_vec(),
                        Values::Bits { width, words } => {
                            let each = width.div_ceil(64) as usize;
                            let words = &words[row * each..(row + 1) * each];
                            words.iter().flat_map(|word| word.to_le_bytes()).collect()
                        }
                        Values::Keys(keys) => keys.row(row).to_vec(),
                    };
                    (column.is_null(row), bytes)
                })
                .collect()
        })
        .collect();
    rows.sort();
    rows
}

/// What the encoding of these rows must be, computed value by value.
fn expected(rows: &[Row]) -> Vec<Vec<(bool, Vec<u8>)>> {
    let mut all: Vec<_> = rows
        .iter()
        .map(|(id, n, amount, day, flag, note)| {
            let key = id.as_ref().map_or(vec![0], |id| {
                let id = id.trim().to_uppercase();
                let mut bytes = vec![5];
                bytes.extend(u32::try_from(id.len()).unwrap().to_le_bytes());
                bytes.extend(id.as_bytes());
                bytes
            });
            let text = note.as_ref().map_or(vec![0; 32], |note| {
                let mut bytes = note.clone().into_bytes();
                bytes.resize(31, 0);
                bytes.push(u8::try_from(note.len()).unwrap());
                bytes.reverse();
                bytes
            });
            let word = |value: i64| value.to_le_bytes().to_vec();
            vec![
                (id.is_none(), key),
                (n.is_none(), word(n.unwrap_or(0))),
                (
                    amount.is_none(),
                    i128::from(amount.unwrap_or(0)).to_le_bytes().to_vec(),
                ),
                (
                    day.is_none(),
                    word(i64::from(day.unwrap_or(0).cast_unsigned())),
                ),
                (flag.is_none(), word(i64::from(flag.unwrap_or(false)))),
                (note.is_none(), text),
            ]
        })
        .collect();
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn csv_and_parquet_give_the_same_columns(rows in proptest::collection::vec(row(), 0..30)) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.csv"), csv(&rows)).unwrap();
        write_parquet(&folder.path().join("b.parquet"), &batch(&rows));
        // A folder of two files, half the rows each.
        std::fs::create_dir(folder.path().join("c")).unwrap();
        let (left, right) = rows.split_at(rows.len() / 2);
        std::fs::write(folder.path().join("c/1.csv"), csv(left)).unwrap();
        std::fs::write(folder.path().join("c/2.csv"), csv(right)).unwrap();
        let tables: String = ["a.csv", "b.parquet", "c"]
            .map(|source| table(source, "max_rows = 100", COLUMNS))
            .concat();
        let engine = DataFusionEngine::new(catalog(folder.path(), &tables));
        let expect = columns().iter().map(|c| (c.data_type, true)).collect::<Vec<_>>();
        for name in ["a", "b", "c"] {
            let sql = format!("SELECT id AS c0, n AS c1, amount AS c2, day AS c3, flag AS c4, note AS c5 FROM {name}");
            let batches = run_on(&engine, &sql, &expect).unwrap();
            let encoded = encode(&batches, &columns()).unwrap();
            prop_assert_eq!(rows_of(&encoded), expected(&rows), "{}", name);
        }
        // Groups by canonical id, summed here by hand.
        let mut sums: BTreeMap<String, (i64, Option<i128>)> = BTreeMap::new();
        for (id, _, amount, ..) in rows.iter().filter(|row| row.4 == Some(true)) {
            let Some(id) = id else { continue };
            let (count, sum) = sums.entry(id.trim().to_uppercase()).or_default();
            *count += 1;
            if let Some(amount) = amount {
                *sum.get_or_insert(0) += i128::from(*amount);
            }
        }
        let wide = ScalarType::Decimal { precision: 38, scale: 2 };
        for name in ["a", "b", "c"] {
            let sql = format!("SELECT id AS c0, COUNT(*) AS c1, SUM(CAST(amount AS DECIMAL(38,2))) AS c2 FROM {name} WHERE id IS NOT NULL AND flag GROUP BY id");
            let batches = run_on(&engine, &sql, &[(ScalarType::Utf8, true), (ScalarType::Int64, false), (wide, true)]).unwrap();
            let mut found = BTreeMap::new();
            for batch in &batches {
                for row in 0..batch.num_rows() {
                    let sum = batch.column(2).as_primitive::<Decimal128Type>();
                    found.insert(
                        batch.column(0).as_string::<i32>().value(row).to_owned(),
                        (batch.column(1).as_primitive::<Int64Type>().value(row), sum.is_valid(row).then(|| sum.value(row))),
                    );
                }
            }
            prop_assert_eq!(&found, &sums);
        }
    }
}

/// One CSV file, one column beside the row number, one mistake, the exact words.
#[test]
fn bad_values_are_counted_and_never_shown() {
    let secret = "s3cr3t";
    let cases: &[(&str, &str, &str, Code, &str)] = &[
        (
            "int64",
            "",
            "12\ns3cr3t\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are not of the declared type int64",
        ),
        (
            "int64",
            "",
            "9223372036854775808\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are not of the declared type int64",
        ),
        (
            "decimal(6,2)",
            "",
            "12.50\n1.234\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows have more digits after the point than declared",
        ),
        (
            "decimal(6,2)",
            "",
            "99999.5\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are not of the declared type decimal(6,2)",
        ),
        (
            "date",
            "",
            "2024-02-30\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are not of the declared type date",
        ),
        (
            "bool",
            "",
            "maybe\nperhaps\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are not of the declared type bool",
        ),
        (
            "int64",
            "nullable = false",
            "1\n\"\"\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are NULL, which catalog.toml rules out",
        ),
        (
            "utf8",
            "max_bytes = 5",
            "s3cr3t\nabc\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are longer than the 5 bytes declared",
        ),
        (
            "utf8",
            "codes = [\"a\", \"b\"]",
            "a\ns3cr3t\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are outside the code list declared",
        ),
        (
            "int64",
            "max_abs = 10",
            "-11\n10\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are beyond the bound declared",
        ),
        (
            "decimal(6,2)",
            "max_abs = 1000",
            "10.01\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are beyond the bound declared",
        ),
        (
            "int64",
            "max_distinct = 2",
            "1\n2\n3\n",
            Code::BadSource,
            "tax.t has more than the 2 distinct values of x that catalog.toml declares",
        ),
        (
            "utf8",
            "canonical = [\"trim\", \"upper\", \"id18\"], nullable = false",
            "110105194912310021\n",
            Code::BadSource,
            "tax.t.x (t.csv): some rows are NULL, which catalog.toml rules out",
        ),
        (
            "int64",
            "",
            "1,s3cr3t,3\n",
            Code::BadSource,
            "tax.t (t.csv): a CSV file is malformed",
        ),
        (
            "int64",
            "",
            "1\n2\n3\n4\n5\n",
            Code::BadSource,
            "tax.t has more than the 4 rows that catalog.toml declares",
        ),
    ];
    for (data_type, extra, values, code, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let mut text = String::from("i,x\n");
        for (number, value) in values.lines().enumerate() {
            text.push_str(&format!("{number},{value}\n"));
        }
        std::fs::write(folder.path().join("t.csv"), text).unwrap();
        let comma = if extra.is_empty() { "" } else { ", " };
        let columns = format!(
            "{{ name = \"i\", type = \"int64\" }}, {{ name = \"x\", type = \"{data_type}\"{comma}{extra} }}"
        );
        let tables = table("t.csv", "max_rows = 4\nkey = [\"i\"]", &columns);
        let catalog = catalog(folder.path(), &tables);
        let column = &catalog.published.tables[0].columns[1];
        let expect = [(column.data_type, column.nullable)];
        let engine = DataFusionEngine::new(catalog.clone());
        let error = run_on(&engine, "SELECT x AS c0 FROM t", &expect).unwrap_err();
        assert_eq!(error.message, *expected, "{values:?}");
        assert_eq!(error.code, *code);
        assert!(!error.to_string().contains(secret));
    }
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let column = "{ name = \"x\", type = \"int64\" }";
    std::fs::write(path.join("other.csv"), "y\n1\n").unwrap();
    std::fs::write(path.join("twice.csv"), "x,X\n1,1\n").unwrap();
    std::fs::write(path.join("junk.parquet"), "s3cr3t s3cr3t s3cr3t").unwrap();
    std::fs::write(path.join("bytes.csv"), b"x\n\xff\xfe\n").unwrap();
    std::fs::create_dir(path.join("none")).unwrap();
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let batch = RecordBatch::try_from_iter([("x", floats)]).unwrap();
    write_parquet(&path.join("floats.parquet"), &batch);
    let cases = [
        (
            "gone.csv",
            Code::SourceUnavailable,
            "gone.csv: entity not found",
        ),
        (
            "other.csv",
            Code::BadSource,
            "other.csv has no column x, which catalog.toml declares",
        ),
        (
            "twice.csv",
            Code::BadSource,
            "twice.csv: the header names a column twice",
        ),
        (
            "junk.parquet",
            Code::BadSource,
            "junk.parquet cannot be read as Parquet",
        ),
        ("bytes.csv", Code::BadSource, "a CSV file is malformed"),
        ("none", Code::BadSource, "none holds no .csv file"),
        (
            "floats.parquet",
            Code::BadSource,
            "floats.parquet: column x holds Float64, which does not fit the declared int64",
        ),
    ];
    for (source, code, expected) in cases {
        let format = if source == "none" {
            "\nformat = \"csv\""
        } else {
            ""
        };
        let tables = table(source, &format!("max_rows = 4{format}"), column);
        let name = source.split('.').next().unwrap();
        let engine = DataFusionEngine::new(catalog(path, &tables));
        let sql = format!("SELECT x AS c0 FROM {name}");
        let error = run_on(&engine, &sql, &[(ScalarType::Int64, true)]).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.starts_with(&format!("tax.{name}")), "{error}");
        assert!(error.message.ends_with(expected), "{error}");
        assert!(!error.message.contains("s3cr3t"));
    }
}

#[test]
fn duplicate_keys_are_counted_in_canonical_form() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("t.csv"),
        "id,year\na,1\n A ,1\nb,1\nb,2\n,1\n,1\n",
    )
    .unwrap();
    let columns = r#"{ name = "id", type = "utf8", canonical = ["trim", "upper"] }, { name = "year", type = "int64" }"#;
    let tables = table("t.csv", "max_rows = 10\nkey = [\"id\", \"year\"]", columns);
    let engine = DataFusionEngine::new(catalog(folder.path(), &tables));
    let error = run_on(
        &engine,
        "SELECT year AS c0 FROM t",
        &[(ScalarType::Int64, true)],
    );
    let error = error.unwrap_err();
    assert_eq!(error.code, Code::DuplicateKey);
    assert_eq!(
        error.message,
        "tax.t: rows repeat the declared key (id, year) of another row"
    );
}

#[test]
fn fragments_only_read_their_own_tables() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.csv"), "x\n1\n").unwrap();
    // A table whose name lies inside another's, and whose file is bad, is not touched.
    std::fs::write(folder.path().join("t_bad.csv"), "y\n1\n").unwrap();
    let column = "{ name = \"x\", type = \"int64\" }";
    let tables = [
        table("t.csv", "max_rows = 4", column),
        table("t_bad.csv", "max_rows = 4", column),
    ]
    .concat();
    let engine = DataFusionEngine::new(catalog(folder.path(), &tables));
    let expect = [(ScalarType::Int64, true)];
    let out = folder.path().join("out.csv");
    for (sql, code) in [
        (
            format!("COPY (SELECT x FROM t) TO '{}'", out.display()),
            None,
        ),
        ("CREATE TABLE u AS SELECT x FROM t".to_owned(), None),
        (
            "SELECT x AS c0 FROM nothing".to_owned(),
            Some(Code::UnknownTable),
        ),
        (
            "SELECT x AS c0 FROM information_schema.tables".to_owned(),
            Some(Code::UnknownTable),
        ),
        (
            "SELECT z AS c0 FROM t".to_owned(),
            Some(Code::UnknownColumn),
        ),
        ("SELECT 1/0 AS c0 FROM t".to_owned(), Some(Code::Overflow)),
        (
            "SELECT CAST(x AS DECIMAL(4,2)) AS c0 FROM t".to_owned(),
            Some(Code::DigestMismatch),
        ),
        ("SELECT".to_owned(), Some(Code::SqlSyntax)),
    ] {
        let error = run_on(&engine, &sql, &expect).unwrap_err();
        if let Some(code) = code {
            assert_eq!(error.code, code, "{sql}: {error}");
        }
    }
    assert!(!out.exists());
    let batches = run_on(&engine, "SELECT x AS c0 FROM t_bad", &expect);
    assert_eq!(batches.unwrap_err().code, Code::BadSource);
    let batches = run_on(&engine, "SELECT x AS c0 FROM t", &expect).unwrap();
    assert_eq!(one(&batches).num_rows(), 1);
    // A plan that promises no NULL where the table has some is refused.
    let error = run_on(
        &engine,
        "SELECT x AS c0 FROM t",
        &[(ScalarType::Int64, false)],
    );
    assert_eq!(error.unwrap_err().code, Code::DigestMismatch);
}

#[test]
fn snapshots_follow_the_files_and_memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let mut text = String::from("x\n");
    for number in 0..200_000 {
        text.push_str(&format!("{number}\n"));
    }
    std::fs::write(&path, text).unwrap();
    let tables = table(
        "t.csv",
        "max_rows = 200000",
        "{ name = \"x\", type = \"int64\" }",
    );
    let catalog = catalog(folder.path(), &tables);
    let engine = DataFusionEngine::new(catalog.clone()).with_memory(1 << 20);
    let sql = "SELECT x AS c0, COUNT(*) AS c1 FROM t GROUP BY x";
    let expect = [(ScalarType::Int64, true), (ScalarType::Int64, false)];
    let error = run_on(&engine, sql, &expect).unwrap_err();
    assert_eq!(error.code, Code::LimitExceeded, "{error}");
    let engine = DataFusionEngine::new(catalog);
    let before = engine.snapshot().unwrap();
    assert_eq!(before, engine.snapshot().unwrap());
    assert_eq!(
        one(&run_on(&engine, sql, &expect).unwrap()).num_rows(),
        200_000
    );
    std::fs::write(&path, "x\n1\n").unwrap();
    assert_ne!(before, engine.snapshot().unwrap());
    // What was verified of the old content is not taken for the new.
    std::fs::write(&path, "x\nno\n").unwrap();
    assert_eq!(
        run_on(&engine, sql, &expect).unwrap_err().code,
        Code::BadSource
    );
}

#[test]
fn parquet_numbers_are_brought_to_the_declared_type_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let small: ArrayRef = Arc::new(arrow::array::Int16Array::from(vec![Some(7), None]));
    let fine: ArrayRef = Arc::new(
        Decimal128Array::from(vec![1_i128, 2])
            .with_precision_and_scale(12, 4)
            .unwrap(),
    );
    let huge: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![1, u64::MAX]));
    let batch =
        RecordBatch::try_from_iter([("small", small), ("fine", fine), ("huge", huge)]).unwrap();
    write_parquet(&folder.path().join("t.parquet"), &batch);
    let run = |column: &str, data_type: &str| {
        let columns = format!("{{ name = \"{column}\", type = \"{data_type}\" }}");
        let catalog = catalog(folder.path(), &table("t.parquet", "max_rows = 4", &columns));
        let expect = [(catalog.published.tables[0].columns[0].data_type, true)];
        let sql = format!("SELECT {column} AS c0 FROM t");
        run_on(&DataFusionEngine::new(catalog), &sql, &expect)
    };
    let ints = one(&run("small", "int64").unwrap());
    assert_eq!(
        ints.column(0).as_primitive::<Int64Type>(),
        &Int64Array::from(vec![Some(7), None])
    );
    for (column, data_type, expected) in [
        (
            "fine",
            "decimal(12,2)",
            "tax.t: t.parquet: column fine holds Decimal128(12, 4), which does not fit the declared decimal(12,2)",
        ),
        (
            "huge",
            "int64",
            "tax.t.huge (t.parquet): some rows are not of the declared type int64",
        ),
        (
            "small",
            "utf8",
            "tax.t: t.parquet: column small holds Int16, which does not fit the declared utf8",
        ),
    ] {
        let error = run(column, data_type).unwrap_err();
        assert_eq!(error.message, expected);
        assert_eq!(error.code, Code::BadSource);
    }
}
