//! Gateways that are down, die in mid-query or get broken files: one named error within ten
//! seconds, nothing opened, nothing left running, and the next query works.

use crate::support::{Sandbox, export, rows, run, text};
use std::process::Command;
use std::time::{Duration, Instant};

const SQL: &str = "SELECT r.district, COUNT(*) AS n FROM civil.residents r \
                   JOIN tax.income i ON r.person_id = i.person_id GROUP BY r.district";

fn kill(pid: u32) {
    signal("-KILL", pid);
}

fn signal(name: &str, pid: u32) {
    assert!(
        Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// A stopped process that goes on when this is dropped, so that a failing test leaves nothing stopped.
struct Stopped(u32);

impl Stopped {
    fn stop(pid: u32) -> Self {
        signal("-STOP", pid);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-CONT", &self.0.to_string()])
            .status();
    }
}

#[test]
fn a_gateway_that_is_down_is_named() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 500, 6);
    let sandbox = Sandbox::start(folder.path());
    rows(&sandbox.query(SQL));
    kill(sandbox.gateway("tax"));
    let started = Instant::now();
    let output = sandbox.query(SQL);
    let errors = text(&output.stderr);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(output.stdout.is_empty());
    assert!(errors.contains("tax"), "{errors}");
    // A query that does not need it still works.
    let rest = "SELECT r.district, COUNT(*) AS n FROM civil.residents r \
                JOIN social.pension s ON r.person_id = s.person_id GROUP BY r.district";
    rows(&sandbox.query(rest));
}

#[test]
fn a_gateway_killed_in_mid_query_ends_it_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 100_000, 7);
    let sandbox = Sandbox::start(folder.path());
    let victim = sandbox.gateway("bureau");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        kill(victim);
    });
    let started = Instant::now();
    let output = sandbox.query(SQL);
    killer.join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    // On a fast machine the query may have been through.
    if !output.status.success() {
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{errors}");
        assert!(output.stdout.is_empty());
        assert!(errors.contains("bureau"), "{errors}");
    }
}

#[test]
fn a_gateway_that_hangs_is_named_and_serves_again_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 500, 9);
    let sandbox = Sandbox::start(folder.path());
    rows(&sandbox.query(SQL));
    let stopped = Stopped::stop(sandbox.gateway("tax"));
    let started = Instant::now();
    let output = sandbox.query(SQL);
    let errors = text(&output.stderr);
    assert!(started.elapsed() < Duration::from_secs(10), "{errors}");
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(output.stdout.is_empty());
    assert!(errors.contains("tax"), "{errors}");
    drop(stopped);
    rows(&sandbox.query(SQL));
}

#[test]
fn a_gateway_that_hangs_in_mid_query_ends_it_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 100_000, 10);
    let sandbox = Sandbox::start(folder.path());
    let victim = sandbox.gateway("bureau");
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        Stopped::stop(victim)
    });
    let started = Instant::now();
    let output = sandbox.query(SQL);
    let took = started.elapsed();
    let stopped = stopper.join().unwrap();
    let errors = text(&output.stderr);
    assert!(took < Duration::from_secs(10), "{errors}");
    // On a fast machine the query may have been through.
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(69), "{errors}");
        assert!(output.stdout.is_empty());
        assert!(errors.contains("bureau"), "{errors}");
    }
    drop(stopped);
    rows(&sandbox.query(SQL));
}

#[test]
fn broken_files_are_named_without_their_values() {
    let folder = tempfile::tempdir().unwrap();
    for department in ["north", "south"] {
        std::fs::create_dir_all(folder.path().join(department)).unwrap();
    }
    let csv = |rows: &str| format!("id,amount\n{rows}");
    let good: String = (0..40).map(|i| format!("{i},{i}.50\n")).collect();
    std::fs::write(folder.path().join("north/people.csv"), csv(&good)).unwrap();
    std::fs::write(folder.path().join("south/payments.csv"), csv(&good)).unwrap();
    // Numbers from 0 on could be those of the payments themselves.
    let unit = "tables.payments.unit = \"id\"\n";
    std::fs::write(folder.path().join("south/catalog.toml"), unit).unwrap();
    let dir = folder.path().to_str().unwrap();
    let sql = "SELECT COUNT(*) AS n, SUM(p.amount) AS s FROM north.people a \
               JOIN south.payments p ON a.id = p.id";
    let first = run(&["sandbox", dir, "--sql", sql, "--output", "json"]);
    assert_eq!(
        rows(&first),
        serde_json::json!([{"n": 40, "s": 800.0}]),
        "{}",
        text(&first.stderr)
    );
    // Now a value that is no number, under the same catalogue.
    let bad = csv(&format!("{good}41,XSECRETX\n"));
    std::fs::write(folder.path().join("south/payments.csv"), bad).unwrap();
    let output = run(&["sandbox", dir, "--sql", sql, "--output", "json"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{errors}");
    assert!(errors.contains("payments"), "{errors}");
    assert!(errors.contains("south"), "{errors}");
    assert!(!errors.contains("XSECRETX"), "{errors}");
    // A typo in a policy.
    let policy = folder.path().join("north/policy.toml");
    let text_of = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, text_of.replacen("version", "versoin", 1)).unwrap();
    let output = run(&["sandbox", dir, "--sql", sql, "--output", "json"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{errors}");
    assert!(errors.contains("policy.toml"), "{errors}");
    assert!(errors.contains("versoin"), "{errors}");
}

#[test]
fn ending_a_sandbox_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 200, 8);
    let sandbox = Sandbox::start(folder.path());
    let gateways = sandbox.gateways();
    assert_eq!(gateways.len(), 4, "{gateways:?}");
    drop(sandbox);
    let gone = Instant::now();
    while gateways
        .iter()
        .any(|(pid, _)| std::path::Path::new(&format!("/proc/{pid}")).exists())
    {
        assert!(
            gone.elapsed() < Duration::from_secs(5),
            "a gateway outlived its sandbox"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
