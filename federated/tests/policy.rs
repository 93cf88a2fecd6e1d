//! `policy.toml`: what is read, what is refused and in which words, and the JSON for peers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use veilgate_federated::catalog::{self, Published, Unit};
use veilgate_federated::error::Code;
use veilgate_federated::policy::{AggregateFunction, Leakage, Level, Policy, Use, file};

const GOOD: &str = r#"
version = 1
department = "tax"
computing = [["civil", "tax", "bureau"]]

[tables.income]
level = "L2"
allow = [{ use = "filter", k = 10 }]

[tables.income.columns.taxable_income]
level = "L3"
allow = [
  { use = "aggregate", functions = ["sum", "avg"], k = 10, recipients = ["civil"] },
  { use = "aggregate", functions = ["sum"], k = 20, purposes = ["fraud inquiry"], case = true },
]
"#;

fn published() -> Published {
    let text = r#"
version = 1
department = "tax"
[[tables]]
name = "income"
source = "income.csv"
unit = "person_id"
max_rows = 10
columns = [
  { name = "person_id", type = "utf8" },
  { name = "taxable_income", type = "decimal(14,2)" },
]
"#;
    catalog::file::parse(text, "catalog.toml", std::path::Path::new("."))
        .unwrap()
        .published
}

#[test]
fn a_policy_is_read() {
    let policy = file::parse(GOOD, "policy.toml").unwrap();
    assert_eq!(policy.computing.len(), 1);
    let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "tax.income.*/filter",
            "tax.income.taxable_income/aggregate(sum)",
            "tax.income.taxable_income/aggregate(avg)",
            "tax.income.taxable_income/aggregate(sum)#2",
        ]
    );
    let sum = &policy.rules[1];
    assert_eq!(sum.permits, Use::Aggregate(AggregateFunction::Sum));
    assert_eq!((sum.k, sum.leakage), (10, Leakage::None));
    assert_eq!(sum.recipients, ["civil"]);
    assert!(sum.purposes.is_empty() && !sum.case);
    assert_eq!(policy.rules[3].purposes, ["fraud inquiry"]);
    assert!(policy.rules[3].case);
    assert_eq!(policy.level("income", "taxable_income"), Level::L3);
    assert_eq!(policy.level("income", "person_id"), Level::L2);
    assert_eq!(policy.level("other", "x"), Level::L4);
    policy.check_against(&published()).unwrap();
}

#[test]
fn json_round_trips_and_carries_the_version() {
    let policy = file::parse(GOOD, "policy.toml").unwrap();
    let json = policy.to_json();
    assert_eq!(Policy::from_json(&json).unwrap(), policy);
    // Comments and layout are not part of the version; a rule is.
    let spaced = GOOD.replace("\n\n", "\n# a comment\n\n");
    assert_eq!(file::parse(&spaced, "x").unwrap().version, policy.version);
    let other = GOOD.replace("k = 20", "k = 21");
    assert_ne!(file::parse(&other, "x").unwrap().version, policy.version);
    // A peer's JSON is held to the same rules.
    for (from, to) in [
        ("\"k\":20", "\"k\":0"),
        ("\"k\":20", "\"k\":4"),
        ("\"leakage\":\"none\"", "\"leakage\":\"all\""),
        ("\"use\":\"filter\"", "\"use\":\"everything\""),
        ("\"level\":\"L3\"", "\"level\":\"L5\""),
        ("\"rules\"", "\"rulez\""),
        ("\"civil\",\"tax\",\"bureau\"", "\"civil\",\"tax\",\"tax\""),
    ] {
        assert!(json.contains(from), "{from}");
        let error = Policy::from_json(&json.replace(from, to)).unwrap_err();
        assert_eq!(error.code, Code::BadConfig, "{to}");
    }
}

/// How often one row may count: what a rule says, else what the column's level says.
#[test]
fn weights_are_those_of_the_rule_or_of_the_level() {
    let text = GOOD.replace("k = 20", "k = 20, weights = 3")
        + "[tables.income.columns.person_id]\nlevel = \"L4\"\n\
           allow = [{ use = \"aggregate\", functions = [\"count\"], k = 10 }]\n\
           [tables.codes]\nlevel = \"L1\"\n\
           allow = [{ use = \"aggregate\", functions = [\"sum\"], k = 1 }]\n";
    let text = text.replace("filter\", k = 10", "filter\", k = 10, leakage = \"none\"");
    let policy = file::parse(&text, "policy.toml").unwrap();
    let sum = Use::Aggregate(AggregateFunction::Sum);
    let avg = Use::Aggregate(AggregateFunction::Avg);
    let count = Use::Aggregate(AggregateFunction::Count);
    // One rule for sums says nothing, at level L3; the other says 3.
    let each: Vec<Option<u32>> = policy
        .rules_for("income", "taxable_income", &sum)
        .into_iter()
        .map(|rule| policy.rule_weights(rule, "taxable_income"))
        .collect();
    assert_eq!(each, [Some(8), Some(3)]);
    assert_eq!(policy.weights("income", "taxable_income", &sum), Some(3));
    assert_eq!(policy.weights("income", "taxable_income", &avg), Some(8));
    assert_eq!(policy.weights("income", "person_id", &count), Some(1));
    // COUNT(*) is held to the most demanding rule of the table, here that of a column of level L4.
    assert_eq!(policy.weights("income", "*", &count), Some(1));
    // L2 has 64, L1 no bound; what nobody has classified is treated as L4.
    assert_eq!(policy.weights("income", "year", &sum), Some(64));
    assert_eq!(policy.weights("codes", "code", &sum), None);
    assert_eq!(policy.weights("codes", "*", &count), None);
    assert_eq!(policy.weights("unknown", "x", &sum), Some(1));
    assert_eq!(policy.weights("unknown", "*", &count), Some(1));
}

/// What peers see of both, and that the version follows it.
#[test]
fn weights_and_the_floor_of_rows_are_published() {
    let plain = file::parse(GOOD, "policy.toml").unwrap();
    assert_eq!((plain.rules[3].weights, plain.min_rows), (None, 0));
    assert!(!plain.to_json().contains("weights") && !plain.to_json().contains("min_rows"));
    for (from, to, json) in [
        ("k = 20", "k = 20, weights = 3", "\"weights\":3"),
        (
            "[tables.income]",
            "min_rows = 100\n[tables.income]",
            "\"min_rows\":100",
        ),
    ] {
        let policy = file::parse(&GOOD.replacen(from, to, 1), "policy.toml").unwrap();
        assert_ne!(policy.version, plain.version);
        assert!(policy.to_json().contains(json), "{}", policy.to_json());
        assert_eq!(Policy::from_json(&policy.to_json()).unwrap(), policy);
        // A peer's are held to the same limits.
        let beyond = policy
            .to_json()
            .replace(json, &format!("{json}{}", "0".repeat(11)));
        assert!(Policy::from_json(&beyond).is_err());
    }
    let sixty_five = plain
        .to_json()
        .replace("\"case\":true", "\"case\":true,\"weights\":65");
    let error = Policy::from_json(&sixty_five).unwrap_err();
    assert!(
        error.message.contains("weights = 65 is not 1 to 64"),
        "{error}"
    );
}

/// Every mistake, with the exact words.
#[test]
fn mistakes_are_explained_with_their_place() {
    let cases = [
        (
            "k = 20",
            "kk = 20",
            "policy.toml, line 14, column 45: unknown field `kk`, expected one of `use`, `functions`, `k`, `leakage`, `recipients`, `purposes`, `case`, `weights`; did you mean `k`?",
        ),
        (
            "[\"fraud inquiry\"]",
            "[]",
            "policy.toml, line 14, column 64: an empty list of purposes would allow nobody; leave `purposes` out to allow all",
        ),
        (
            "[\"fraud inquiry\"]",
            "[\" \"]",
            "policy.toml, line 14, column 65: a purpose has 1 to 200 characters, all of them printable",
        ),
        (
            "\"filter\"",
            "\"fliter\"",
            "policy.toml, line 8, column 18: use `fliter` is not known; did you mean `filter`?",
        ),
        (
            "[\"sum\"]",
            "[\"mode\"]",
            "policy.toml, line 14, column 37: function `mode` is not known; there are: count, sum, avg, min, max, median",
        ),
        (
            "functions = [\"sum\"], ",
            "",
            "policy.toml, line 14, column 11: use = \"aggregate\" needs functions = [...] out of \"count\", \"sum\", \"avg\", \"min\", \"max\", \"median\"",
        ),
        (
            "k = 20",
            "k = 0",
            "policy.toml, line 14, column 49: rule tax.income.taxable_income/aggregate(sum)#2: k is at least 1",
        ),
        (
            "k = 20",
            "k = 4",
            "policy.toml, line 14, column 49: rule tax.income.taxable_income/aggregate(sum)#2: k = 4 is below 5, the least that level L3 allows",
        ),
        (
            "k = 20",
            "k = 20, leakage = \"sizes\"",
            "policy.toml, line 14, column 49: rule tax.income.taxable_income/aggregate(sum)#2: level L3 allows leakage = \"none\" only",
        ),
        (
            "filter\", k = 10",
            "filter\", k = 4",
            "policy.toml, line 8, column 32: rule tax.income.*/filter: k = 4 is below 5, the least that level L3 allows",
        ),
        (
            "\"L3\"",
            "\"L5\"",
            "policy.toml, line 11, column 9: L5 (state secrets, core data) cannot be registered: remove the column from the catalogue",
        ),
        (
            ", \"bureau\"",
            "",
            "policy.toml, line 4, column 14: a computing set names exactly three departments",
        ),
        (
            "\"bureau\"",
            "\"tax\"",
            "policy.toml, line 4, column 14: a computing set names three different departments",
        ),
        (
            "version = 1",
            "version = 2",
            "policy.toml, line 2, column 11: policy version 2 is not known; this engine reads version 1",
        ),
        (
            "case = true",
            "case = true, weights = 0",
            "policy.toml, line 14, column 106: rule tax.income.taxable_income/aggregate(sum)#2: weights = 0 is not 1 to 64, how often one row may count",
        ),
        (
            "case = true",
            "case = true, weights = 65",
            "policy.toml, line 14, column 106: rule tax.income.taxable_income/aggregate(sum)#2: weights = 65 is not 1 to 64, how often one row may count",
        ),
        (
            "filter\", k = 10",
            "filter\", k = 10, weights = 2",
            "policy.toml, line 8, column 46: rule tax.income.*/filter: `weights` is for aggregates of count, sum and avg: write those functions in a rule of their own",
        ),
        (
            "[tables.income]",
            "min_rows = 1099511627777\n[tables.income]",
            "policy.toml, line 6, column 12: `min_rows` is at most 1099511627776",
        ),
        (
            "level = \"L2\"",
            "",
            "policy.toml, line 6, column 9: table `income` has rules for every column and no level; add level = \"L2\" or the like",
        ),
    ];
    for (from, to, expected) in cases {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let error = file::parse(&text, "policy.toml").unwrap_err();
        assert_eq!(error.message, expected);
        assert_eq!(error.code, Code::BadConfig);
    }
}

#[test]
fn names_are_checked_against_the_catalogue() {
    for (from, to, expected) in [
        (
            "columns.taxable_income",
            "columns.taxable_incme",
            "policy of tax: [tables.income.columns.taxable_incme] is not in the catalogue; did you mean `taxable_income`?",
        ),
        (
            "tables.income",
            "tables.incomes",
            "policy of tax: [tables.incomes] is not in the catalogue; did you mean `income`?",
        ),
        (
            "department = \"tax\"",
            "department = \"social\"",
            "policy of social: the catalogue beside it is of department `tax`",
        ),
    ] {
        let policy = file::parse(&GOOD.replace(from, to), "policy.toml").unwrap();
        let error = policy.check_against(&published()).unwrap_err();
        assert_eq!(error.message, expected);
    }
}

#[test]
fn a_starter_allows_all_but_output_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["civil", "tax", "bureau"].map(str::to_owned);
    let notices = file::write_starter(folder.path(), &published(), &[set]).unwrap();
    assert_eq!(notices.len(), 1);
    let policy = file::load(folder.path()).unwrap();
    policy.check_against(&published()).unwrap();
    let mut uses: Vec<Use> = policy
        .rules
        .iter()
        .map(|rule| rule.permits.clone())
        .collect();
    uses.sort_unstable();
    // Neither raw values nor MIN, MAX and MEDIAN, which show one.
    assert_eq!(uses.len(), Use::ALL.len() - 4);
    assert!(!uses.contains(&Use::Output));
    assert!(
        policy
            .rules
            .iter()
            .all(|rule| rule.k == 5 && rule.leakage == Leakage::Sizes && rule.column == "*")
    );
    std::fs::write(folder.path().join("policy.toml"), GOOD).unwrap();
    assert!(
        file::write_starter(folder.path(), &published(), &[])
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        file::load(folder.path()).unwrap().to_json(),
        file::parse(GOOD, "x").unwrap().to_json()
    );
}

/// The table `income`, with this unit.
fn with_unit(unit: &str) -> Published {
    let mut published = published();
    published.tables[0].unit = match unit {
        "row" => Unit::Row,
        "none" => Unit::None,
        column => Unit::Column(column.to_owned()),
    };
    published
}

/// A threshold counts people: on a table of which nobody is counted it is a mistake, by whichever
/// rule or level asks for it.
#[test]
fn a_threshold_needs_a_unit() {
    let public = "version = 1\ndepartment = \"tax\"\n[tables.income]\nlevel = \"L1\"\n\
                  allow = [{ use = \"filter\", k = 1 }]\n";
    let mend = ", and table tax.income has unit = \"none\" in catalog.toml, so that nobody can be \
                counted: write there unit = \"person_id\", or whichever column names the person or firm, or \
                unit = \"row\" if every row really is another one; or write level = \"L1\" and k = 1 \
                here if the table is public reference data";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    for (from, to, asks, place) in [
        (
            "k = 1",
            "k = 2",
            "rule tax.income.*/filter asks for k = 2",
            "line 5, column 32",
        ),
        (
            "level = \"L1\"\nallow = [{ use = \"filter\", k = 1 }]",
            "level = \"L3\"",
            "level L3 asks for k = 5",
            "line 4, column 9",
        ),
        (
            "}]\n",
            "}]\n[tables.income.columns.taxable_income]\nlevel = \"L2\"\n",
            "level L2 of column taxable_income asks for k = 3",
            "line 7, column 9",
        ),
    ] {
        let mut text = public.replace(from, to);
        assert_ne!(text, public, "{from}");
        if to.contains("columns") {
            // The level of one column is a floor for rules of the whole table.
            text = text.replace("allow = [{ use = \"filter\", k = 1 }]\n", "");
        }
        let policy = file::parse(&text, "policy.toml").unwrap();
        for counted in ["row", "person_id"] {
            policy.check_against(&with_unit(counted)).unwrap();
        }
        let error = policy.check_against(&with_unit("none")).unwrap_err();
        assert_eq!(error.code, Code::NoUnit);
        assert_eq!(error.message, format!("policy of tax: {asks}{mend}"));
        // As a gateway reads it when it starts, with the line.
        std::fs::write(&path, &text).unwrap();
        let error = file::load_for(folder.path(), &with_unit("none")).unwrap_err();
        let place = match to.contains("columns") {
            true => "line 6, column 9",
            false => place,
        };
        assert_eq!(
            (error.code, error.message),
            (
                Code::NoUnit,
                format!("{}, {place}: {asks}{mend}", path.display())
            )
        );
        file::load_for(folder.path(), &with_unit("row")).unwrap();
    }
    let policy = file::parse(public, "policy.toml").unwrap();
    policy.check_against(&with_unit("none")).unwrap();
}

/// A starter of public reference data asks for no threshold, and says so.
#[test]
fn a_starter_of_reference_data_has_k_1() {
    let folder = tempfile::tempdir().unwrap();
    let notices = file::write_starter(folder.path(), &with_unit("none"), &[]).unwrap();
    assert_eq!(
        notices[1],
        "tax.income: public reference data by its unit, so k = 1 in the starter policy"
    );
    let policy = file::load_for(folder.path(), &with_unit("none")).unwrap();
    assert!(!policy.rules.is_empty() && policy.rules.iter().all(|rule| rule.k == 1));
}

/// What the catalogue does not have is told with its line, all of it at once.
#[test]
fn a_policy_is_held_against_the_catalogue_with_lines() {
    let folder = tempfile::tempdir().unwrap();
    let text = GOOD.replace("columns.taxable_income", "columns.taxable_incme")
        + "[tables.pension]\nlevel = \"L2\"\n";
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    let (_, mistakes) = file::load_with_mistakes(folder.path(), &published()).unwrap();
    let messages: Vec<&str> = mistakes.iter().map(|each| each.message.as_str()).collect();
    let at = path.display();
    assert_eq!(
        messages,
        [
            format!(
                "{at}, line 11, column 9: [tables.income.columns.taxable_incme] is not in the catalogue; did you mean `taxable_income`?"
            ),
            format!(
                "{at}, line 17, column 9: [tables.pension] is not in the catalogue; there are: income"
            ),
        ]
    );
}
