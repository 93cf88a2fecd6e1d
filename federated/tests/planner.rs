//! Plans of many queries, compared with `golden/planner.txt`; set `VEILGATE_BLESS=1` to write it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "planner/federation.rs"]
#[allow(dead_code)]
mod federation;

use federation::{engine, federation, text};
use std::fmt::Write as _;
use veilgate_federated::error::Error;
use veilgate_federated::flow::{Me, check};
use veilgate_federated::plan::{Line, Validated};
use veilgate_federated::planner::{Federation, Planned, Request, Strategy, plan};
use veilgate_federated::policy::{Leakage, Reason};

fn plan_with(
    federation: &Federation,
    sql: &str,
    strategy: Option<Strategy>,
) -> Result<Planned, Error> {
    plan(&Request {
        sql,
        parameters: None,
        home: "civil",
        federation,
        engine: engine(),
        line: Line::default(),
        strategy,
    })
}

/// `-- name` and `-- none` (leakage) lines before each query, queries separated by blank lines.
fn cases() -> Vec<(String, bool, String)> {
    include_str!("golden/planner.sql")
        .split("\n\n")
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (head, body): (Vec<&str>, Vec<&str>) = part
                .trim()
                .lines()
                .partition(|line| line.starts_with("-- "));
            let title = head[0].trim_start_matches("-- ").to_owned();
            (title, head.contains(&"-- leakage none"), body.join("\n"))
        })
        .collect()
}

#[test]
fn plans_are_as_blessed() {
    let mut out = String::new();
    for (title, none, sql) in cases() {
        let leakage = if none { Leakage::None } else { Leakage::Sizes };
        let federation = federation(leakage);
        let first = plan_with(&federation, &sql, None);
        assert_eq!(
            first,
            plan_with(&federation, &sql, None),
            "{title}: planned twice"
        );
        let _ = writeln!(out, "== {title}\n{sql}\n--");
        match first {
            Ok(planned) => {
                federation::check_form(&planned.plan);
                out.push_str(&text(&planned));
            }
            Err(error) => {
                let _ = writeln!(out, "{}: {error}", error.code.name());
            }
        }
        out.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/planner.txt");
    if std::env::var_os("VEILGATE_BLESS").is_some() {
        std::fs::write(path, &out).unwrap();
        return;
    }
    let blessed = std::fs::read_to_string(path).unwrap();
    for (have, want) in out.split("\n\n").zip(blessed.split("\n\n")) {
        assert_eq!(have, want, "\n{have}\n\nis not as blessed:\n\n{want}");
    }
    assert_eq!(out.len(), blessed.len(), "cases were added or removed");
}

#[test]
fn every_plan_is_valid_and_permitted() {
    for (title, none, sql) in cases() {
        let leakage = if none { Leakage::None } else { Leakage::Sizes };
        for strategy in [None, Some(Strategy::Aligned), Some(Strategy::Oblivious)] {
            if let Ok(planned) = plan_with(&federation(leakage), &sql, strategy) {
                let validated = Validated::from_plan(&planned.plan)
                    .unwrap_or_else(|error| panic!("{title}: {error}"));
                assert_eq!(*validated.plan(), planned.plan);
                for member in &federation(leakage).members {
                    let me = Me {
                        department: &member.department,
                        catalog: member.catalog.as_ref(),
                        policy: member.policy.as_ref(),
                        engine: &engine(),
                        home: "civil",
                        reason: Reason::default(),
                    };
                    if planned.plan.party(&member.department).is_none() {
                        continue;
                    }
                    // Owners refuse sums of what is not linear; the planner leaves it to them.
                    let permitted = check(&validated, &me).is_ok();
                    let linear = !sql.contains("SUM(abs(") || member.department != "social";
                    assert_eq!(permitted, linear, "{title}: {}", member.department);
                }
            }
        }
    }
}
