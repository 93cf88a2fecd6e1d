//! SQL as analysts write it, over three departments' files as a newcomer has them: keys and units inferred,
//! every use but raw output, k = 5. Each query has to be answered as in the clear where nothing is withheld,
//! or be refused in words that say what would run.

use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use veilgate_federated::catalog::file::load;
use veilgate_federated::catalog::infer::write_starters;
use veilgate_federated::planner::Strategy;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::{Federation, every_use};

fn main_folder() -> PathBuf {
    match std::env::var_os("VG_BATTERY") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from("tests/battery"),
    }
}

/// Queries by name.
fn queries(text: &str) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut name = String::new();
    let mut sql = String::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("-- ") {
            if let Some((word, _)) = comment.split_once(':') {
                name = word.to_owned();
            }
            continue;
        }
        sql.push_str(line);
        sql.push(' ');
        if line.trim_end().ends_with(';') {
            let text = sql.trim().trim_end_matches(';').to_owned();
            list.push((std::mem::take(&mut name), text));
            sql.clear();
        }
    }
    list
}

fn federation(source: &Path, folder: &Path, k: u32) -> Federation {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let to = folder.join(&name);
            std::fs::create_dir_all(&to).unwrap();
            for file in std::fs::read_dir(&path).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
            folders.push((name, to));
        }
    }
    folders.sort();
    write_starters(&folders).unwrap();
    let catalogs: Vec<_> = folders.iter().map(|(_, to)| load(to).unwrap()).collect();
    let policies = catalogs
        .iter()
        .map(|catalog| every_use(&catalog.published, k, Leakage::Sizes))
        .collect();
    Federation::of_catalogs(catalogs, policies).unwrap()
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    veilgate_federated::testing::tpch::lines(batch)
}

#[test]
#[ignore = "for people: prints what becomes of every query"]
fn what_becomes_of_every_query() {
    let source = main_folder();
    let text = std::fs::read_to_string(source.join("queries.sql")).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let mut one = federation(&source, &temp.path().join("one"), 1);
    let mut five = federation(&source, &temp.path().join("five"), 5);
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, sql) in queries(&text) {
        let a = one.run_query(&sql, "civil", None);
        let b = five.run_query(&sql, "civil", Some(Strategy::Steps));
        let verdict = match (&a, &b) {
            (Ok(a), Ok(b)) if shown(&a.batch) == shown(&b.batch) => "equal",
            (Ok(_), Ok(_)) => "less",
            (Ok(_), Err(_)) => "only open",
            (Err(_), Ok(_)) => "only guarded",
            (Err(_), Err(_)) => "neither",
        };
        *count.entry(verdict).or_default() += 1;
        println!("== {name}: {verdict}\n   {sql}");
        match verdict {
            "less" => {
                let (a, b) = (a.unwrap(), b.unwrap());
                println!("   open {:?}", shown(&a.batch));
                println!("   k=5  {:?}\n   {:?}", shown(&b.batch), b.notices);
            }
            _ => {
                if let Err(error) = a {
                    println!("   open: {}: {}", error.code.name(), error.message);
                }
                if std::env::var_os("VG_EXPLAIN").is_some_and(|of| of == name.as_str()) {
                    if let Ok(planned) = five.plan(&sql, "civil", Some(Strategy::Steps)) {
                        println!(
                            "{}",
                            veilgate_federated::plan::explain::explain(&planned, &[])
                        );
                    } else if let Ok(planned) = one.plan(&sql, "civil", Some(Strategy::Steps)) {
                        println!(
                            "{}",
                            veilgate_federated::plan::explain::explain(&planned, &[])
                        );
                    }
                }
                if let Err(error) = b {
                    println!("   k=5: {}: {}", error.code.name(), error.message);
                }
            }
        }
    }
    println!("{count:?}");
}
