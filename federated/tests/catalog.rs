//! `catalog.toml`: what is read, what is refused and in which words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use veilgate_federated::catalog::{Canonical, Catalog, Format, Unit, file};
use veilgate_federated::error::Code;
use veilgate_federated::schema::ScalarType;

const GOOD: &str = r#"
version = 1
department = "tax"

[[tables]]
name = "income"
source = "income.csv"
key = ["person_id", "year"]
unit = "person_id"
max_rows = 300000
columns = [
  { name = "person_id", type = "utf8", canonical = ["nfc", "trim", "upper", "id18"], max_bytes = 24 },
  { name = "year", type = "int64", nullable = false, max_distinct = 10 },
  { name = "district", type = "utf8", codes = ["A", "B"], max_bytes = 8 },
  { name = "taxable_income", type = "decimal(14,2)", max_abs = 100000000 },
]

[[tables]]
name = "firms"
source = "firms"
format = "parquet"
unit = "none"
max_rows = 10
[[tables.columns]]
name = "firm_id"
type = "int64"
"#;

fn parse(text: &str) -> Result<Catalog, veilgate_federated::error::Error> {
    file::parse(text, "catalog.toml", Path::new("data"))
}

#[test]
fn a_catalogue_is_read_and_written() {
    let catalog = parse(GOOD).unwrap();
    let names: Vec<&str> = catalog
        .published
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .collect();
    assert_eq!(names, ["firms", "income"], "ascending");
    assert_eq!(catalog.sources[0].format, Format::Parquet);
    assert_eq!(catalog.sources[1].path, Path::new("data/income.csv"));
    let income = catalog.published.table("income").unwrap();
    assert_eq!(income.unit, Unit::Column("person_id".to_owned()));
    let id = income.column("person_id").unwrap();
    assert!(id.nullable);
    assert_eq!(id.canonical.last(), Some(&Canonical::Id18));
    assert_eq!(
        income.column("taxable_income").unwrap().data_type,
        ScalarType::Decimal {
            precision: 14,
            scale: 2
        }
    );
    let text = file::render(&catalog, Path::new("data"));
    assert_eq!(parse(&text).unwrap(), catalog);
    file::check_published(&catalog.published).unwrap();
    let mut forged = catalog.published;
    forged.tables[0].unit = Unit::Column("ghost".to_owned());
    assert_eq!(
        file::check_published(&forged).unwrap_err().code,
        Code::BadConfig
    );
}

#[test]
fn mistakes_are_explained_with_their_place() {
    let cases = [
        (
            "max_rows = 300000",
            "max_row = 300000",
            "catalog.toml, line 10, column 1: unknown field `max_row`, expected one of `name`, `source`, `format`, `description`, `key`, `unit`, `max_rows`, `columns`; did you mean `max_rows`?",
        ),
        (
            "\"person_id\", \"year\"]",
            "\"person_di\"]",
            "catalog.toml, line 8, column 8: `key` of table `income` names `person_di`, which is not among its columns; did you mean `person_id`?",
        ),
        (
            "unit = \"person_id\"",
            "unit = \"people\"",
            "catalog.toml, line 9, column 8: `unit` of table `income` is \"row\", \"none\" or one of its columns, and `people` is not; there are: person_id, year, district, taxable_income",
        ),
        (
            "type = \"int64\", nullable",
            "type = \"float64\", nullable",
            "catalog.toml, line 13, column 27: unknown type `float64`: use int64, decimal(p,s), date, timestamp, bool or utf8",
        ),
        (
            "\"income.csv\"",
            "\"../civil/residents.csv\"",
            "catalog.toml, line 7, column 10: a source is a relative path inside the department's folder, without `..`",
        ),
        (
            "\"income.csv\"",
            "\"income\"",
            "catalog.toml, line 7, column 10: the format cannot be told from the name; add format = \"parquet\" or \"csv\"",
        ),
        (
            "[\"A\", \"B\"]",
            "[\"A\", \"A\"]",
            "catalog.toml, line 14, column 53: code `A` of column `district` twice",
        ),
        (
            "name = \"district\"",
            "name = \"District\"",
            "catalog.toml, line 14, column 12: `District` cannot name a column: lower-case letters, digits and `_`, no digit first, at most 128 bytes",
        ),
        (
            "name = \"district\"",
            "name = \"year\"",
            "catalog.toml, line 14, column 12: column `year` of table `income` is declared twice",
        ),
        (
            "\"trim\"",
            "\"trimm\"",
            "catalog.toml, line 12, column 60: unknown variant `trimm`, expected one of `nfc`, `trim`, `no_spaces`, `upper`, `lower`, `id18`; did you mean `trim`?",
        ),
        (
            "unit = \"person_id\"\n",
            "",
            "catalog.toml, line 6, column 8: table `income` has no `unit`, and thresholds count people or firms, never rows: write unit = \"person_id\", or whichever column names the person or firm, unit = \"row\" if every row is another one, or unit = \"none\" if it is public reference data",
        ),
        (
            "max_rows = 300000\n",
            "",
            "catalog.toml, line 6, column 8: table `income` has no `max_rows`; `veilgate sandbox` fills in what is missing",
        ),
        (
            "name = \"income\"\n",
            "",
            "catalog.toml, line 5, column 1: missing field `name`",
        ),
        (
            "version = 1\n",
            "",
            "catalog.toml, line 1, column 1: missing field `version`",
        ),
        (
            "max_distinct = 10",
            "max_bytes = 10",
            "catalog.toml, line 13, column 12: column `year` is int64: `max_bytes`, `codes` and `canonical` are for utf8",
        ),
        (
            "name = \"firms\"",
            "name = \"income\"",
            "catalog.toml, line 19, column 8: table `income` is declared twice",
        ),
        (
            "max_rows = 10\n",
            "max_rows = 0\n",
            "catalog.toml, line 23, column 12: `max_rows` of table `firms` is a public upper bound: 1 to 1099511627776",
        ),
    ];
    for (from, to, expected) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let error = parse(&text).unwrap_err();
        assert_eq!(error.message, expected);
        let no_unit = expected.contains("has no `unit`");
        let code = if no_unit {
            Code::NoUnit
        } else {
            Code::BadConfig
        };
        assert_eq!(error.code, code);
    }
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x.csv"), "a\n").unwrap();
    std::os::unix::fs::symlink(
        outside.path().join("x.csv"),
        folder.path().join("income.csv"),
    )
    .unwrap();
    let error = file::parse(GOOD, "catalog.toml", folder.path()).unwrap_err();
    assert!(
        error
            .message
            .ends_with("a link to outside the department's folder"),
        "{error}"
    );
}
