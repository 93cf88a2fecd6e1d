//! What goes wrong has one error, which names who is to blame.

use crate::data::{Dice, RandomTable, Shape};
use crate::departments_of;
use std::path::Path;
use veilgate_federated::error::{Code, Error};
use veilgate_federated::planner::Strategy;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::{Answer, Federation};
use veilgate_mpc::spill::Memory;

const SQL: &str = "SELECT a.code, COUNT(*) AS n FROM civil.t a JOIN tax.t b ON a.id = b.id \
                   GROUP BY a.code";

/// Two tables, unique by key, after `change`.
fn run(
    strategy: Strategy,
    change: impl FnOnce(&mut Federation, &mut [RandomTable]),
) -> Result<Answer, Error> {
    let mut dice = Dice::new(4);
    let shape = Shape {
        key_type: veilgate_federated::schema::ScalarType::Int64,
        composite: false,
        ids: 50,
    };
    let mut tables: Vec<RandomTable> = ["civil", "tax"]
        .iter()
        .map(|name| {
            loop {
                let table = RandomTable::random(&mut dice, &shape, name, true);
                if table.rows > 20 {
                    break table;
                }
            }
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let stored = departments_of(&mut dice, &tables, true, Leakage::Sizes);
    let mut federation = Federation::new(folder.path(), stored).unwrap();
    change(&mut federation, &mut tables);
    federation.run_query(SQL, "civil", Some(strategy))
}

#[test]
fn a_party_that_is_gone_is_named() {
    for strategy in [Strategy::Aligned, Strategy::Oblivious] {
        for gone in ["tax", "bureau"] {
            let error = run(strategy, |federation, _| {
                federation.absent = Some(gone.to_owned());
            })
            .unwrap_err();
            assert_eq!(error.code, Code::PeerUnavailable, "{error}");
            assert_eq!(error.department.as_deref(), Some(gone), "{error}");
        }
    }
}

/// The fewest bytes with which a run is not refused.
fn least_memory(folder: &Path) -> u64 {
    let error = run(Strategy::Oblivious, |federation, _| {
        federation.memory = Some(Memory::new(1, folder));
    })
    .unwrap_err();
    assert_eq!(error.code, Code::LimitExceeded, "{error}");
    let mut words = error.message.split(' ');
    words.find_map(|word| word.parse().ok()).unwrap()
}

#[test]
fn what_does_not_fit_waits_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let least = least_memory(folder.path());
    let due = run(Strategy::Oblivious, |_, _| {}).unwrap();
    let answer = run(Strategy::Oblivious, |federation, _| {
        federation.memory = Some(Memory::new(least, folder.path()));
    })
    .unwrap();
    assert_eq!(answer.batch, due.batch);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // Without the folder the run fails, so it was needed.
    let error = run(Strategy::Oblivious, |federation, _| {
        federation.memory = Some(Memory::new(least, &folder.path().join("gone")));
    })
    .unwrap_err();
    assert_eq!(error.code, Code::LimitExceeded, "{error}");
    assert!(error.message.contains("could not wait on disk"), "{error}");
}

#[test]
fn nothing_is_wrong_otherwise() {
    for strategy in [Strategy::Aligned, Strategy::Oblivious] {
        let answer = run(strategy, |_, _| {}).unwrap();
        assert_eq!(answer.planned.strategy, Some(strategy));
        let computing = answer.traffic.iter().flatten();
        assert!(computing.clone().count() == 3 && computing.clone().all(|t| t.bytes_sent > 0));
    }
}
