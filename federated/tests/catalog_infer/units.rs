//! Whose privacy a row concerns, in starter catalogues: never the row or a measure without a word.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use veilgate_federated::catalog::{Catalog, Unit, file, infer};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::policy;

/// A sandbox's folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn departments(dir: &Path) -> Vec<(String, PathBuf)> {
    let mut all: Vec<(String, PathBuf)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    all.sort();
    all
}

/// Every notice, after the starters of all departments were written.
fn starters(dir: &Path) -> Result<Vec<String>, Error> {
    let told = infer::write_starters(&departments(dir))?;
    Ok(told.into_iter().flat_map(|(_, notices)| notices).collect())
}

fn load(dir: &Path, department: &str) -> Catalog {
    file::load(&dir.join(department)).unwrap()
}

/// Unit and key of a table.
fn of(dir: &Path, department: &str, table: &str) -> (String, Vec<String>) {
    let catalog = load(dir, department);
    let table = catalog.published.table(table).unwrap();
    (table.unit.name().to_owned(), table.key.clone())
}

fn csv(header: &str, rows: std::ops::Range<u32>, row: impl Fn(u32) -> String) -> String {
    let mut text = format!("{header}\n");
    for n in rows {
        let _ = writeln!(text, "{}", row(n));
    }
    text
}

#[test]
fn a_person_comes_before_the_number_of_a_row() {
    let visits = csv("visit_no,customer_id,ward,cost", 0..60, |n| {
        format!("{n},C{},{},{}", n % 30, n % 3, 100 + n)
    });
    let dir = folder(&[("health/visits.csv", &visits)]);
    let notices = starters(dir.path()).unwrap();
    assert_eq!(
        of(dir.path(), "health", "visits"),
        ("customer_id".to_owned(), vec!["visit_no".to_owned()])
    );
    assert_eq!(
        notices[1],
        "health.visits: privacy unit customer_id: its name says people; key visit_no, at most 60 rows, 4 columns"
    );
}

#[test]
fn a_measure_is_neither_key_nor_unit() {
    let train = csv("score,y,id_number,age", 0..60, |n| {
        format!("0.{n:04},{},ID{n:04},{}", n % 2, 20 + n)
    });
    // Whole numbers, each another, and first: still no identifier.
    let feat = csv("x0,id_number", 0..60, |n| format!("{},ID{n:04}", 3 * n));
    let dir = folder(&[("bank/train.csv", &train), ("shop/feat.csv", &feat)]);
    let notices = starters(dir.path()).unwrap();
    let id = ("id_number".to_owned(), vec!["id_number".to_owned()]);
    assert_eq!(of(dir.path(), "bank", "train"), id);
    assert_eq!(of(dir.path(), "shop", "feat"), id);
    assert_eq!(
        notices[1],
        "bank.train: privacy unit id_number: its values are also those of shop.feat.id_number; key id_number, at most 60 rows, 4 columns"
    );
}

#[test]
fn values_of_another_department_tell_under_another_name_too() {
    let own = csv("subject_ref,x", 0..40, |n| format!("S{n:05},{n}"));
    let other = csv("code_of_origin,y", 20..60, |n| format!("s{n:05} ,{n}"));
    let dir = folder(&[("a/t.csv", &own), ("b/u.csv", &other)]);
    starters(dir.path()).unwrap();
    assert_eq!(of(dir.path(), "b", "u").0, "code_of_origin");
    // A department with a whole catalogue is looked at too.
    let again = folder(&[("a/t.csv", &own), ("b/u.csv", &other)]);
    std::fs::copy(
        dir.path().join("a/catalog.toml"),
        again.path().join("a/catalog.toml"),
    )
    .unwrap();
    starters(again.path()).unwrap();
    assert_eq!(of(again.path(), "b", "u").0, "code_of_origin");
}

/// What two departments share and is no person: the question is asked.
#[test]
fn chance_measures_events_and_words_tell_nothing() {
    let numbered = |header: &str| csv(header, 1..61, |n| format!("{n},{}", n % 7));
    for (header, other, same) in [
        // Rows are numbered everywhere.
        ("id,x", "id,y", "1"),
        ("visit_id,x", "visit_id,y", "1"),
        ("k,x", "person_number_2,y", "1"),
        ("age,x", "age,y", "1"),
        ("x1,x", "x1,y", "1"),
    ] {
        let dir = folder(&[
            ("a/t.csv", &numbered(header)),
            ("b/t.csv", &numbered(other)),
        ]);
        let error = starters(dir.path()).unwrap_err();
        assert_eq!(error.code, Code::NoUnit, "{header} {other} {same}");
        assert!(!dir.path().join("a/catalog.toml").exists());
        assert!(!dir.path().join("b/catalog.toml").exists(), "all or none");
    }
    let words = csv("place,x", 0..60, |n| {
        format!(
            "{},{n}",
            ["North", "South", "East", "West", "Middle", "Sea"][n as usize % 6]
        )
    });
    let few = csv("ref_no,x", 0..60, |n| format!("R{},{n}", n % 2));
    let orders = csv("order_no,x", 0..60, |n| format!("O{n:04},{n}"));
    for text in [&words, &few, &orders] {
        let dir = folder(&[("a/t.csv", text), ("b/t.csv", text)]);
        assert_eq!(
            starters(dir.path()).unwrap_err().code,
            Code::NoUnit,
            "{text}"
        );
    }
}

#[test]
fn the_question_is_one_line_and_its_answer_is_enough() {
    let visits = csv("visit_no,ward,cost", 0..30, |n| {
        format!("{n},{},{n}.50", n % 3)
    });
    let people = csv("person_id,ward", 0..30, |n| format!("P{n},{}", n % 3));
    let dir = folder(&[
        ("health/visits.csv", &visits),
        ("health/people.csv", &people),
    ]);
    let error = starters(dir.path()).unwrap_err();
    assert_eq!((error.code, error.blame().exit_code()), (Code::NoUnit, 64));
    let at = dir.path().join("health");
    let at = at.display();
    assert_eq!(
        error.message,
        format!(
            "{at}/visits.csv: no column of table visits tells by its name or values whose privacy a row concerns, and thresholds count people or firms, never rows. Write one line into {at}/catalog.toml, and the rest will be filled in:\n  \
             tables.visits.unit = \"visit_no\"  # the column of which each value is one person or firm; likeliest: visit_no, ward\n  \
             tables.visits.unit = \"row\"  # or this, if every row is another person or firm\n  \
             tables.visits.unit = \"none\"  # or this, if it is public reference data, nobody's privacy"
        )
    );
    // One of those lines, remark and all.
    let line = "tables.visits.unit = \"row\"  # every row is another person\n";
    let path = dir.path().join("health/catalog.toml");
    std::fs::write(&path, line).unwrap();
    let notices = starters(dir.path()).unwrap();
    assert!(
        notices[0].starts_with(&format!("completed {}: 2 tables", path.display())),
        "{notices:?}"
    );
    assert_eq!(
        notices[2],
        "health.visits: every row its own privacy unit: as catalog.toml says; key visit_no, at most 30 rows, 3 columns"
    );
    let catalog = load(dir.path(), "health");
    assert_eq!(catalog.published.table("visits").unwrap().unit, Unit::Row);
    let found = catalog.published.table("people").unwrap();
    assert_eq!(found.unit, Unit::Column("person_id".to_owned()));
    // What was written by hand is kept to read, and the whole file is left alone from now on.
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.ends_with(&format!("# Completed from these lines:\n# {line}")),
        "{text}"
    );
    assert!(starters(dir.path()).unwrap().is_empty());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

/// Given lines win, in both ways of writing tables; their mistakes are told where they stand.
#[test]
fn given_lines_win() {
    let visits = csv("visit_no,ward,cost", 0..30, |n| {
        format!("{n},{},{n}.50", n % 3)
    });
    for given in [
        "[tables.visits]\nunit = \"none\"\nmax_rows = 5000\ndescription = \"Read me.\"\nkey = []\n",
        "version = 1\ndepartment = \"health\"\n[[tables]]\nname = \"visits\"\nunit = \"none\"\nmax_rows = 5000\n\
         description = \"Read me.\"\nkey = []\n",
    ] {
        let dir = folder(&[
            ("health/visits.csv", &visits),
            ("health/catalog.toml", given),
        ]);
        starters(dir.path()).unwrap();
        let catalog = load(dir.path(), "health");
        let table = catalog.published.table("visits").unwrap();
        assert_eq!((&table.unit, table.max_rows), (&Unit::None, 5000));
        assert_eq!(table.description, "Read me.");
        assert!(table.key.is_empty());
        assert_eq!(table.columns.len(), 3);
        // The starter policy of such a table asks for no threshold.
        let path = dir.path().join("health");
        policy::file::write_starter(&path, &catalog.published, &[]).unwrap();
        policy::file::load_for(&path, &catalog.published).unwrap();
    }
    // Only the columns listed are published, and the table may have another name than its file.
    let given = "[tables.stays]\nsource = \"visits.csv\"\nunit = \"visit_no\"\n\
                 columns = [{ name = \"visit_no\", type = \"utf8\" }]\n";
    let dir = folder(&[
        ("health/visits.csv", &visits),
        ("health/catalog.toml", given),
    ]);
    starters(dir.path()).unwrap();
    let catalog = load(dir.path(), "health");
    assert_eq!(catalog.published.tables.len(), 1);
    assert_eq!(catalog.published.table("stays").unwrap().columns.len(), 1);
    for (given, expected) in [
        (
            "tables.visits.unit = \"wrd\"\n",
            "line 1, column 22: `unit` of table `visits` is \"row\", \"none\" or one of its columns, and `wrd` is not; did you mean `ward`?",
        ),
        (
            "tables.visit.unit = \"row\"\n",
            "line 1, column 8: there is no file of table `visit` in this folder; did you mean `visits`?",
        ),
        (
            "department = \"tax\"\ntables.visits.unit = \"row\"\n",
            "line 1, column 14: this folder is of department `health`",
        ),
        (
            "tables.visits.unti = \"row\"\n",
            "line 1, column 15: unknown field `unti`",
        ),
    ] {
        let dir = folder(&[
            ("health/visits.csv", &visits),
            ("health/catalog.toml", given),
        ]);
        let error = starters(dir.path()).unwrap_err();
        assert_eq!(error.code, Code::BadConfig);
        assert!(error.message.contains(expected), "{error}");
        let path = dir.path().join("health/catalog.toml");
        assert_eq!(std::fs::read_to_string(path).unwrap(), given);
        // A gateway does not start with a part of a catalogue.
        assert!(file::load(&dir.path().join("health")).is_err());
    }
}

/// A code list that others refer to is nobody's; a list of people's codes is asked about.
#[test]
fn code_lists_are_public_reference_data() {
    let districts = csv("district_code,label", 0..8, |n| {
        format!("11010{n},Ward of {n}")
    });
    let people = csv("person_id,district", 0..80, |n| {
        format!("P{n},11010{}", n % 8)
    });
    let dir = folder(&[
        ("civil/people.csv", &people),
        ("maps/districts.csv", &districts),
    ]);
    let notices = starters(dir.path()).unwrap();
    let (unit, key) = of(dir.path(), "maps", "districts");
    assert_eq!(
        (unit.as_str(), key),
        ("none", vec!["district_code".to_owned()])
    );
    assert_eq!(
        notices[3],
        "maps.districts: nobody's privacy (unit = \"none\"): a public list of district_code, which civil.people.district refers to; key district_code, at most 8 rows, 2 columns"
    );
    // Nobody refers to it; or it is of people, by a word in any of its names.
    for (name, list, others) in [
        (
            "districts",
            &districts,
            csv("person_id,x", 0..80, |n| format!("P{n},{n}")),
        ),
        ("patient_codes", &districts, people.clone()),
        (
            "districts",
            &districts.replace("label", "owner"),
            people.clone(),
        ),
        (
            "list",
            &districts.replace("district_code", "code"),
            people.clone(),
        ),
    ] {
        let dir = folder(&[
            ("civil/people.csv", &others),
            (&format!("maps/{name}.csv"), list),
        ]);
        assert_eq!(
            starters(dir.path()).unwrap_err().code,
            Code::NoUnit,
            "{name}"
        );
    }
}

/// Names in Chinese, in capitals, and the name of the table.
#[test]
fn names_in_every_spelling() {
    for (table, header, unit) in [
        ("t", "编号,身份证号,金额", "身份证号"),
        ("t", "姓名,客户编号,金额", "客户编号"),
        ("t", "地区,姓名,金额", "姓名"),
        ("t", "VisitID,PatientID,Cost", "patientid"),
        ("t", "paid,void,card_no", "card_no"),
        ("Customers", "id,name,paid", "id"),
    ] {
        let text = csv(header, 0..12, |n| format!("A{n},B{},{n}", n / 2));
        let dir = folder(&[(&format!("a/{table}.csv"), &text)]);
        starters(dir.path()).unwrap();
        let catalog = load(dir.path(), "a");
        let found = &catalog.published.tables[0].unit;
        assert_eq!(*found, Unit::Column(unit.to_owned()), "{header}");
    }
}
