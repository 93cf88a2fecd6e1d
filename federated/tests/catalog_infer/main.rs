//! Starter catalogues: what is inferred from a newcomer's files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod units;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, ListArray, RecordBatch,
    StringArray,
};
use arrow::datatypes::Int32Type;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use veilgate_federated::catalog::{Canonical, Catalog, Unit, file, infer};
use veilgate_federated::error::Code;

const IDS: [&str; 2] = [" 11010519491231002x", "440524188001010014"];

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn starter(folder: &Path) -> (Catalog, Vec<String>) {
    let notices = infer::write_starter(folder, "tax").unwrap();
    (file::load(folder).unwrap(), notices)
}

fn types(catalog: &Catalog, table: &str) -> Vec<String> {
    let table = catalog.published.table(table).unwrap();
    table
        .columns
        .iter()
        .map(|column| {
            let null = if column.nullable { "?" } else { "" };
            format!("{} {}{null}", column.name, column.data_type)
        })
        .collect()
}

#[test]
fn csv_types_keys_and_units() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from(
        "\u{feff}Person ID,year,amount,share,born,active,postcode,card,note,nothing\n",
    );
    for (id, year) in [(0, 2023), (1, 2024)] {
        text.push_str(&format!(
            "{},{year},12.50,3,2000-02-2{year_digit},true,010{id},11010519491231002{id},\"a, b\",\n",
            IDS[id],
            year_digit = id + 1,
        ));
    }
    text.push_str(&format!(
        "{},,-1234.5,,,F,0100,110105194912310029,,\n",
        IDS[0]
    ));
    write(folder.path(), "income.csv", &text);
    write(folder.path(), "readme.txt", "no table");
    let (catalog, notices) = starter(folder.path());
    assert_eq!(
        types(&catalog, "income"),
        [
            "person_id utf8",
            "year int64?",
            "amount decimal(7,2)",
            "share int64?",
            "born date?",
            "active bool",
            "postcode utf8",
            "card utf8",
            "note utf8?",
            "nothing utf8?",
        ]
    );
    let income = catalog.published.table("income").unwrap();
    assert_eq!(income.unit, Unit::Column("person_id".to_owned()));
    assert!(
        income.key.is_empty(),
        "two rows of one person: {:?}",
        income.key
    );
    assert_eq!(income.max_rows, 3);
    let id = income.column("person_id").unwrap();
    assert_eq!(
        id.canonical,
        [
            Canonical::Nfc,
            Canonical::Trim,
            Canonical::Upper,
            Canonical::Id18
        ]
    );
    assert_eq!(id.max_bytes, 24);
    assert_eq!(
        notices.last().unwrap(),
        "tax.income: privacy unit person_id: personal identifiers with check digits; no key, at most 3 rows, 10 columns"
    );
    // Never overwritten.
    let before = std::fs::read(folder.path().join("catalog.toml")).unwrap();
    assert!(
        infer::write_starter(folder.path(), "tax")
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        std::fs::read(folder.path().join("catalog.toml")).unwrap(),
        before
    );
}

#[test]
fn keys_are_unique_in_canonical_form() {
    let folder = tempfile::tempdir().unwrap();
    // The same identifier in two spellings.
    write(
        folder.path(),
        "a.csv",
        "person_id\n11010519491231002x\n 11010519491231002X\n",
    );
    write(folder.path(), "b.csv", "name,firm_id\nx,7\nx,8\n");
    let (catalog, _) = starter(folder.path());
    assert!(catalog.published.table("a").unwrap().key.is_empty());
    let firms = catalog.published.table("b").unwrap();
    assert_eq!(firms.key, ["firm_id"]);
    assert_eq!(firms.unit, Unit::Column("firm_id".to_owned()));
}

#[test]
fn few_wrong_check_digits_become_null_and_many_stay_text() {
    let folder = tempfile::tempdir().unwrap();
    let valid = "440524188001010014\n";
    write(
        folder.path(),
        "few.csv",
        &format!("id\n{}440524188001010015\n", valid.repeat(19)),
    );
    write(
        folder.path(),
        "many.csv",
        &format!("person_id\n{}440524188001010015\n", valid.repeat(18)),
    );
    let (catalog, _) = starter(folder.path());
    let few = &catalog.published.table("few").unwrap().columns[0];
    assert!(few.canonical.contains(&Canonical::Id18) && few.nullable);
    let many = &catalog.published.table("many").unwrap().columns[0];
    assert_eq!(many.canonical, [Canonical::Nfc, Canonical::Trim]);
}

#[test]
fn parquet_types() {
    let folder = tempfile::tempdir().unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ID", Arc::new(Int32Array::from(vec![1, 2]))),
        (
            "rate",
            Arc::new(Float64Array::from(vec![Some(0.125), None])),
        ),
        ("day", Arc::new(Date32Array::from(vec![0, 1]))),
        ("ok", Arc::new(BooleanArray::from(vec![true, false]))),
        ("name", Arc::new(StringArray::from(vec!["a", "bb"]))),
        (
            "tags",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                Some(vec![Some(1)]),
                None,
            ])),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(
        File::create(folder.path().join("firms.parquet")).unwrap(),
        batch.schema(),
        None,
    )
    .unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (catalog, notices) = starter(folder.path());
    assert_eq!(
        types(&catalog, "firms"),
        [
            "id int64",
            "rate decimal(10,3)?",
            "day date",
            "ok bool",
            "name utf8"
        ]
    );
    assert_eq!(catalog.published.table("firms").unwrap().key, ["id"]);
    assert!(notices.iter().any(|n| n == "tax.firms: column tags is left out: its Parquet type cannot take part in joint queries"));
    assert!(notices.iter().any(|n| n == "tax.firms: column rate is a float in Parquet; it is read in fixed point, rounded to the declared scale"));
}

#[test]
fn what_cannot_be_a_table_is_named() {
    let cases = [
        ("a.csv", "x,X\n1,2\n", "has two columns that are named x"),
        (
            "a.csv",
            "x,y\n1,secret\n1,2,3\n",
            "is malformed CSV near row 1",
        ),
        ("a.parquet", "no parquet", "cannot be read as Parquet"),
    ];
    for (name, text, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), name, text);
        let error = infer::write_starter(folder.path(), "tax").unwrap_err();
        assert_eq!(error.code, Code::BadSource);
        assert!(error.message.contains(expected), "{error}");
        assert!(!error.message.contains("secret"));
        assert!(!folder.path().join("catalog.toml").exists());
    }
    let empty = tempfile::tempdir().unwrap();
    let error = infer::write_starter(empty.path(), "tax").unwrap_err();
    assert!(error.message.ends_with("holds no .csv or .parquet table"));
}
