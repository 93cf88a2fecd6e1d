//! Sandboxes and the demo with real processes: answers, refusals, and that nothing is left running.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_veilgate"));
    command
        .args(args)
        .env_remove("VEILGATE_DIR")
        .env_remove("VEILGATE_CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn outcome(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(args).output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// Two departments with 60 people in common, in three groups of 30, 25 and 5.
fn write_tables(dir: &Path) {
    for department in ["health", "schools"] {
        std::fs::create_dir_all(dir.join(department)).unwrap();
    }
    let mut visits = String::from("person_id,ward,cost\n");
    let mut pupils = String::from("person_id,grade,enrolled\n");
    for person in 0..60 {
        let ward = match person {
            0..30 => "north",
            30..55 => "south",
            _ => "west",
        };
        visits.push_str(&format!("{},{ward},{}.50\n", 1000 + person, 10 + person));
        pupils.push_str(&format!("{},{},2020-09-01\n", 1000 + person, person % 6));
    }
    std::fs::write(dir.join("health/visits.csv"), visits).unwrap();
    std::fs::write(dir.join("schools/pupils.csv"), pupils).unwrap();
}

const QUERY: &str = "SELECT v.ward, COUNT(*) AS people, SUM(v.cost) AS cost FROM health.visits v \
     JOIN schools.pupils p ON v.person_id = p.person_id GROUP BY v.ward ORDER BY v.ward";

fn pids(dir: &Path) -> Vec<String> {
    std::fs::read_to_string(dir.join(".veilgate/pids"))
        .unwrap()
        .lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

/// Waits until none of these processes runs; one that only waits to be reaped does not.
fn gone(pids: &[String]) {
    let runs = |pid: &&String| {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
    };
    let deadline = Instant::now() + Duration::from_secs(8);
    loop {
        let left: Vec<&String> = pids.iter().filter(runs).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still running: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Starts a sandbox and waits until it says how to query it.
fn staying(dir: &Path) -> Child {
    let mut child = command(&["sandbox", dir.to_str().unwrap()])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    loop {
        let Some(line) = lines.next() else {
            panic!("the sandbox ended: {said}");
        };
        let line = line.unwrap();
        if line.starts_with("Ctrl-C") {
            break;
        }
        said.push_str(&line);
        said.push('\n');
    }
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn own_files_get_starters_an_answer_and_leave_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let path = dir.path().to_str().unwrap();
    let args = ["sandbox", path, "--sql", QUERY, "--output", "json"];
    let (code, out, err) = outcome(&args);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("catalog.toml") && err.contains("policy.toml"),
        "{err}"
    );
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rows = rows.as_array().unwrap();
    // The ward of five is at the starter's threshold; it is released.
    let people: Vec<(&str, u64)> = rows
        .iter()
        .map(|row| {
            (
                row["ward"].as_str().unwrap(),
                row["people"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(people, [("north", 30), ("south", 25), ("west", 5)]);
    assert!(out.contains("\"cost\": 750.00"), "{out}");
    gone(&pids(dir.path()));

    // Again, with what is there now, without a word beside the rows.
    let (code, again, err) = outcome(&[&args[..], &["--quiet"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(again, out);
}

/// Ten visits of one customer are one unit, though each has a number of its own.
#[test]
fn visits_of_one_customer_are_withheld() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("health")).unwrap();
    let mut visits = String::from("visit_no,customer_id,ward,cost\n");
    for n in 0..60 {
        let (customer, ward) = match n {
            0..50 => (n % 25, ["A", "B"][n % 2]),
            _ => (99, "Z"),
        };
        visits.push_str(&format!("{n},C{customer},{ward},{}\n", 100 + n));
    }
    std::fs::write(dir.path().join("health/visits.csv"), visits).unwrap();
    let path = dir.path().to_str().unwrap();
    let sql = "SELECT v.ward, COUNT(*) AS n FROM health.visits v GROUP BY v.ward ORDER BY v.ward";
    let (code, out, err) = outcome(&["sandbox", path, "--sql", sql, "--output", "json"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("privacy unit customer_id: its name says people"),
        "{err}"
    );
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        rows,
        serde_json::json!([{"ward": "A", "n": 25}, {"ward": "B", "n": 25}])
    );
}

/// Where nothing tells whose privacy a row concerns, one line is asked for, and is enough.
#[test]
fn a_unit_is_asked_for_and_one_line_answers() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let visits = dir.path().join("health/visits.csv");
    let text = std::fs::read_to_string(&visits).unwrap();
    // A number without a word for people, and with other values than the other department has.
    let mut lines = vec!["visit_no,ward,cost".to_owned()];
    lines.extend(text.lines().skip(1).map(|line| format!("9{line}")));
    std::fs::write(&visits, lines.join("\n") + "\n").unwrap();
    let path = dir.path().to_str().unwrap();
    let sql = "SELECT v.ward, COUNT(*) AS n FROM health.visits v GROUP BY v.ward ORDER BY v.ward";
    let args = ["sandbox", path, "--sql", sql, "--output", "json"];
    let (code, out, err) = outcome(&args);
    assert_eq!((code, out.as_str()), (64, ""), "{err}");
    assert!(
        err.contains("no-unit") && err.contains("tables.visits.unit = \"visit_no\""),
        "{err}"
    );
    assert!(!dir.path().join("schools/catalog.toml").exists());
    std::fs::write(
        dir.path().join("health/catalog.toml"),
        "tables.visits.unit = \"visit_no\"\n",
    )
    .unwrap();
    let (code, out, err) = outcome(&args);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("completed ") && err.contains("visit_no: as catalog.toml says"),
        "{err}"
    );
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected = serde_json::json!([
        {"ward": "north", "n": 30}, {"ward": "south", "n": 25}, {"ward": "west", "n": 5}
    ]);
    assert_eq!(rows, expected);
    // The starter policy asks for k = 5; now nobody would be counted.
    let file = dir.path().join("health/catalog.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("unit = \"visit_no\"", "unit = \"none\""),
    )
    .unwrap();
    let (code, out, err) = outcome(&args);
    assert_eq!((code, out.as_str()), (64, ""), "{err}");
    assert!(
        err.contains("no-unit") && err.contains("policy.toml, line 12, column 27"),
        "{err}"
    );
    assert!(
        err.contains("rule health.visits.*/join_key asks for k = 5"),
        "{err}"
    );
}

#[test]
fn a_staying_sandbox_answers_others_and_ends_with_its_gateways() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let path = dir.path().to_str().unwrap();
    let mut child = staying(dir.path());
    let gateways = pids(dir.path());
    assert_eq!(gateways.len(), 3);

    let (code, out, err) = outcome(&["query", "--dir", path, "--output", "csv", QUERY]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        out,
        "ward,people,cost\nnorth,30,750.00\nsouth,25,1312.50\nwest,5,337.50\n"
    );
    let (code, out, err) = outcome(&["explain", "--dir", path, QUERY]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("health") && out.contains("schools"), "{out}");
    let (code, out, err) = outcome(&["explain", "--dir", path, "--output", "csv", QUERY]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("section,item,department,what,form,who_sees,rows,bytes,rounds,leaks\n"),
        "{out}"
    );
    assert!(
        out.contains("\nfragment,f0,health,") && out.contains(",health,"),
        "{out}"
    );
    let (code, out, err) = outcome(&["catalog", "--dir", path, "--output", "csv"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("health.visits,cost,"), "{out}");
    let raw = "SELECT v.person_id, v.cost FROM health.visits v \
               JOIN schools.pupils p ON v.person_id = p.person_id";
    let (code, out, err) = outcome(&["query", "--dir", path, raw]);
    assert_eq!((code, out.as_str()), (77, ""), "{err}");
    assert!(
        err.contains("health") && err.contains("allowed instead"),
        "{err}"
    );
    let (code, _, err) = outcome(&["sandbox", path]);
    assert_eq!(code, 64, "{err}");
    assert!(err.contains("already"), "{err}");

    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    gone(&gateways);
    let (code, _, err) = outcome(&["query", "--dir", path, QUERY]);
    assert_eq!(code, 69, "{err}");
}

#[test]
fn a_query_beyond_the_budget_is_refused_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made");
    let path = path.to_str().unwrap();
    let (code, _, err) = outcome(&["demo", "--export", path, "--people", "5000"]);
    assert_eq!(code, 0, "{err}");
    let sql = "SELECT r.district, SUM(i.taxable_income) AS s FROM civil.residents r JOIN tax.income i \
               ON r.person_id = i.person_id GROUP BY r.district";
    let output = command(&["sandbox", path, "--sql", sql])
        .env("VEILGATE__LIMITS__TRAFFIC_MIB", "1")
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_ne!(output.status.code(), Some(0), "{err}");
    assert!(output.stdout.is_empty());
    for expected in [
        "limit-exceeded",
        "traffic of all parties",
        "1 MiB are allowed",
        "Cheaper:",
    ] {
        assert!(err.contains(expected), "no `{expected}` in {err}");
    }
}

#[test]
fn what_serves_says_how_to_connect_and_follows_its_files() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let path = dir.path().to_str().unwrap();
    let mut child = command(&["sandbox", path, "--serve"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: Vec<String> = lines
        .by_ref()
        .map(Result::unwrap)
        .take_while(|line| !line.starts_with("Ctrl-C"))
        .collect();
    assert!(
        said.iter()
            .any(|line| line.contains("adbc_driver_flightsql"))
    );
    let connect = || -> serde_json::Value {
        let text = std::fs::read_to_string(dir.path().join(".veilgate/connect.json"));
        serde_json::from_str(&text.unwrap()).unwrap()
    };
    let first = connect();
    assert!(
        first["uri"]
            .as_str()
            .unwrap()
            .starts_with("grpc+tls://localhost:")
    );
    assert_eq!(first["username"], "analyst");
    assert!(first["password"].as_str().unwrap().len() >= 20);
    assert!(Path::new(first["ca"].as_str().unwrap()).is_absolute());
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut wait_for = |word: &str| {
        let found = told
            .by_ref()
            .map(Result::unwrap)
            .any(|line| line.contains(word));
        assert!(found, "nobody said {word}");
    };
    // What does not load changes nothing.
    let policy = dir.path().join("health/policy.toml");
    let text = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text.replacen("leakage", "leekage", 1)).unwrap();
    wait_for("what ran goes on");
    let query = ["query", "--dir", path, "--output", "csv", "--quiet", QUERY];
    let (code, out, err) = outcome(&query);
    assert_ne!(
        code, 0,
        "the policy on disk is not the one consented with: {out}"
    );
    assert!(err.contains("policy"), "{err}");
    std::fs::write(&policy, text).unwrap();
    wait_for("started again");
    let pupils = dir.path().join("schools/pupils.csv");
    let text = std::fs::read_to_string(&pupils).unwrap();
    // Person 1000 is no pupil any more.
    std::fs::write(&pupils, text.replace("1000,0,2020-09-01\n", "")).unwrap();
    wait_for("started again");
    let (code, out, err) = outcome(&query);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("north,29,"), "{out}");
    assert_eq!(connect(), first);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn gateways_do_not_outlive_a_killed_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let mut child = staying(dir.path());
    let gateways = pids(dir.path());
    signal(&child, "-KILL");
    child.wait().unwrap();
    gone(&gateways);
}

#[test]
fn a_killed_gateway_is_named_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let mut child = staying(dir.path());
    let gateways = pids(dir.path());
    Command::new("kill")
        .args(["-KILL", &gateways[1]])
        .status()
        .unwrap();
    let mut told = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        told = line.unwrap();
        if told.contains("ended by itself") {
            break;
        }
    }
    assert!(
        told.contains("the gateway of health ended by itself"),
        "{told}"
    );
    assert!(Path::new(&format!("/proc/{}", gateways[0])).exists());
    signal(&child, "-TERM");
    child.wait().unwrap();
    gone(&gateways);
}

#[test]
fn a_typo_in_a_policy_is_told_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made");
    let path = path.to_str().unwrap();
    let (code, _, err) = outcome(&["demo", "--export", path, "--people", "300"]);
    assert_eq!(code, 0, "{err}");
    let file = Path::new(path).join("tax/policy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("leakage", "leekage", 1)).unwrap();
    let (code, out, err) = outcome(&["sandbox", path, "--sql", "SELECT 1"]);
    assert_eq!((code, out.as_str()), (64, ""));
    assert!(
        err.contains("policy.toml") && err.contains("leekage"),
        "{err}"
    );
    assert!(!Path::new(path).join(".veilgate/pids").exists());
}

#[test]
fn the_neutral_gateway_is_nobodys_home() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let path = dir.path().to_str().unwrap();
    for who in ["analyst@bureau", "analyst@nowhere"] {
        let (code, _, err) = outcome(&["sandbox", path, "--as", who, "--sql", QUERY]);
        assert_eq!(code, 64, "{err}");
        assert!(err.contains("health, schools"), "{err}");
    }
}

/// Income rows and cents of low-income residents by district, computed from the files alone.
fn in_the_clear(dir: &Path) -> BTreeMap<String, (u64, i128)> {
    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::Decimal128Type;
    let batches = |file: &str| -> Vec<RecordBatch> {
        let file = std::fs::File::open(dir.join(file)).unwrap();
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let clean = |id: &str| id.replace(' ', "").to_uppercase();
    let mut districts = HashMap::new();
    for batch in batches("civil/residents.parquet") {
        let ids = batch
            .column_by_name("person_id")
            .unwrap()
            .as_string::<i32>();
        let names = batch.column_by_name("district").unwrap().as_string::<i32>();
        let low = batch.column_by_name("low_income").unwrap().as_boolean();
        for row in 0..batch.num_rows() {
            if low.value(row) {
                districts.insert(clean(ids.value(row)), names.value(row).to_owned());
            }
        }
    }
    let mut sums: BTreeMap<String, (u64, i128)> = BTreeMap::new();
    for batch in batches("tax/income.parquet") {
        let ids = batch
            .column_by_name("person_id")
            .unwrap()
            .as_string::<i32>();
        let incomes = batch
            .column_by_name("taxable_income")
            .unwrap()
            .as_primitive::<Decimal128Type>();
        for row in 0..batch.num_rows() {
            if let Some(district) = districts.get(&clean(ids.value(row))) {
                let entry = sums.entry(district.clone()).or_default();
                entry.0 += 1;
                entry.1 += incomes.value(row);
            }
        }
    }
    sums
}

#[test]
fn the_demo_answers_as_the_files_do_except_for_small_groups() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made");
    let sql = "SELECT r.district, COUNT(*) AS incomes, SUM(i.taxable_income) AS total \
               FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
               WHERE r.low_income GROUP BY r.district ORDER BY r.district";
    let options = [
        "--people",
        "5000",
        "--seed",
        "3",
        "--keep",
        path.to_str().unwrap(),
    ];
    let args = [&["demo", "--sql", sql, "--output", "csv"], &options[..]].concat();
    let (code, out, err) = outcome(&args);
    assert_eq!(code, 0, "{err}");
    let clear = in_the_clear(&path);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("district,incomes,total"));
    let mut released = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let (rows, cents) = clear[fields[0]];
        assert_eq!(fields[1], rows.to_string(), "{}", fields[0]);
        assert_eq!(fields[2], format!("{}.{:02}", cents / 100, cents % 100));
        released += 1;
    }
    assert!(
        released > 3 && released >= clear.len() - 2,
        "{released} of {}",
        clear.len()
    );
    gone(&pids(&path));
}

#[test]
fn the_demo_refuses_raw_values_with_77() {
    let sql = "SELECT r.name, i.taxable_income FROM civil.residents r \
               JOIN tax.income i ON r.person_id = i.person_id";
    let (code, out, err) = outcome(&["demo", "--people", "300", "--sql", sql, "--output", "json"]);
    assert_eq!((code, out.as_str()), (77, ""), "{err}");
    assert!(
        err.contains("rule:") && err.contains("allowed instead:"),
        "{err}"
    );
}
