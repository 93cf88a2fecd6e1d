//! The canonical bytes of plans: total decoding, one encoding for one plan.

use crate::federation::federation;
use crate::permitted::planned;
use std::collections::BTreeMap;
use veilgate_federated::error::Code;
use veilgate_federated::plan::{
    JointPlan, Operator, PublicSize, Validated, decode, digest, encode,
};
use veilgate_federated::policy::Leakage;

/// Plans of every shape.
fn plans() -> Vec<JointPlan> {
    let sizes = federation(Leakage::Sizes);
    let none = federation(Leakage::None);
    let mut plans = Vec::new();
    for part in include_str!("../golden/planner.sql").split("\n\n") {
        let sql: Vec<&str> = part
            .lines()
            .filter(|line| !line.starts_with("-- "))
            .collect();
        for federation in [&sizes, &none] {
            plans.extend(planned(federation, &sql.join("\n"), None).ok());
        }
    }
    assert!(plans.len() > 40);
    plans
}

/// A small generator (xorshift64*), so that a failure is repeated by its seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

#[test]
fn plans_come_back_as_they_were() {
    let mut digests = BTreeMap::new();
    for plan in plans() {
        let validated = Validated::from_plan(&plan).unwrap();
        assert_eq!(validated.plan(), &plan);
        let again = decode(validated.bytes()).unwrap();
        assert_eq!(again, validated);
        assert_eq!(validated.digest(), digest(&encode(&plan)));
        if let Some(other) = digests.insert(validated.digest(), plan.clone()) {
            assert_eq!(other, plan, "two plans of one digest");
        }
    }
}

/// 10,000 mutations, truncations, splices and plain garbage: never a panic, never two encodings
/// of one plan.
#[test]
fn hostile_bytes_are_refused() {
    let seed = 0x5eed_0001_u64;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let originals: Vec<Vec<u8>> = plans().iter().map(encode).collect();
    let mut accepted = 0;
    for case in 0..10_000 {
        let mut bytes = originals[random.below(originals.len())].clone();
        match case % 5 {
            0 => bytes.truncate(random.below(bytes.len())),
            1 => {
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len());
                    bytes[at] = random.next().to_le_bytes()[0];
                }
            }
            2 => {
                let other = &originals[random.below(originals.len())];
                let (at, from) = (random.below(bytes.len()), random.below(other.len()));
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            3 => {
                let at = random.below(bytes.len());
                bytes.insert(at, random.next().to_le_bytes()[0]);
            }
            _ => {
                bytes = (0..random.below(300))
                    .map(|_| random.next().to_le_bytes()[0])
                    .collect()
            }
        }
        if let Ok(validated) = decode(&bytes) {
            accepted += 1;
            assert_eq!(encode(validated.plan()), bytes, "case {case}");
            assert_eq!(validated.digest(), digest(&bytes), "case {case}");
        }
    }
    // A changed letter of a name or an estimate is another valid plan; most changes are not.
    println!("{accepted} accepted");
    assert!(accepted < 3_000, "{accepted} accepted");
}

#[test]
fn what_is_added_to_the_bytes_is_refused() {
    let plan = plans().swap_remove(0);
    let bytes = encode(&plan);
    // An unknown field, a repeated version, and the release a second time.
    let release_again = {
        let mut once = bytes.clone();
        once.extend([0x32, 0x00]);
        once
    };
    for added in [
        [bytes.as_slice(), &[0xf8, 0x01, 0x01]].concat(),
        [bytes.as_slice(), &[0x08, 0x02]].concat(),
        release_again,
    ] {
        assert_eq!(decode(&added).unwrap_err().code, Code::DigestMismatch);
    }
    let mut other_version = bytes.clone();
    assert_eq!(other_version[..2], [0x08, 0x02]);
    other_version[1] = 0x01;
    assert_eq!(decode(&other_version).unwrap_err().code, Code::WrongVersion);
    let huge = vec![0_u8; (1 << 20) + 1];
    assert_eq!(decode(&huge).unwrap_err().code, Code::LimitExceeded);
}

fn refused(change: impl FnOnce(&mut JointPlan)) -> String {
    const SQL: &str = "SELECT r.district, COUNT(*), AVG(i.taxable_income) FROM civil.residents r \
        JOIN tax.income i ON r.person_id = i.person_id GROUP BY r.district";
    let mut plan = planned(&federation(Leakage::Sizes), SQL, None).unwrap();
    assert!(Validated::from_plan(&plan).is_ok());
    change(&mut plan);
    let error = decode(&encode(&plan)).unwrap_err();
    assert!(
        matches!(error.code, Code::PeerMisbehaved | Code::LimitExceeded),
        "{error}"
    );
    error.message
}

/// Each change breaks one rule of the structure, and only the named message fits it.
#[test]
fn structure_is_checked_without_trust() {
    type Change = fn(&mut JointPlan);
    let cases: Vec<(&str, Change)> = vec![
        ("ascending", |plan| {
            plan.parties[0].department = "zoo".to_owned();
        }),
        ("result parties", |plan| plan.parties[0].result = true),
        ("three computing", |plan| plan.parties[1].computing = None),
        ("three computing", |plan| {
            plan.parties[0].computing = Some(0)
        }),
        ("catalogue version", |plan| {
            plan.parties[0].catalog_version = Some([0; 32])
        }),
        ("catalogue version", |plan| {
            plan.parties[1].catalog_version = None
        }),
        ("out of range", |plan| {
            plan.line.round_trip_micros = 10_000_001
        }),
        ("out of range", |plan| plan.line.bytes_per_second = 0),
        ("belongs to no party", |plan| plan.fragments[0].owner = 9),
        ("not taken in", |plan| {
            let more = plan.fragments[0].clone();
            plan.fragments.push(more);
        }),
        ("without a unique key", |plan| {
            plan.fragments[0].unique_key = false
        }),
        ("not neutral", |plan| {
            for party in &mut plan.parties {
                party.result = party.department == "bureau";
            }
        }),
        ("mask", |plan| {
            if let Operator::Align { mask_holders, .. } = &mut plan.operators[0] {
                mask_holders.reverse();
            }
        }),
        ("each of another owner", |plan| {
            let (civil, tax) = (plan.fragments[0].owner, plan.fragments[1].owner);
            plan.fragments[1].owner = civil;
            plan.parties[tax].catalog_version = None;
        }),
        ("take", |plan| {
            if let Some(Operator::Aggregate { input, .. }) = plan.operators.last_mut() {
                *input = 7;
            }
        }),
        ("last operator", |plan| {
            let last = plan.operators.last().unwrap().clone();
            let input = plan.operators.len() - 1;
            plan.operators.push(match last {
                Operator::Aggregate {
                    keys, cells, units, ..
                } => Operator::Aggregate {
                    input,
                    keys,
                    cells,
                    units,
                },
                other => other,
            });
            plan.release.input += 1;
        }),
        ("threshold of 0", |plan| {
            if let Some(Operator::Aggregate { units, .. }) = plan.operators.last_mut() {
                units[0].k = 0;
            }
        }),
        ("guarded by a unit count that does not exist", |plan| {
            plan.release.group_guards.push(99);
        }),
        ("guards nothing", |plan| {
            if let Some(Operator::Aggregate { units, .. }) = plan.operators.last_mut() {
                let more = units[0].clone();
                units.push(more);
            }
        }),
        ("computed and not released", |plan| {
            plan.release.columns.pop();
        }),
        ("not used", |plan| {
            if let Some(Operator::Aggregate { keys, .. }) = plan.operators.last_mut() {
                keys.clear();
            }
            plan.release.columns.remove(0);
            plan.release.public_groups = None;
        }),
        ("does not exist", |plan| {
            plan.release.columns[0].source = veilgate_federated::plan::ReleasedSource::Key(3);
        }),
        ("never NULL", |plan| {
            // A mean is left; the count below k would show as a number.
            if let Some(Operator::Aggregate { cells, .. }) = plan.operators.last_mut() {
                cells[0].guards = cells[1].guards.clone();
            }
            plan.release.columns[1].nullable = false;
        }),
        ("rows", |plan| {
            plan.fragments[0].size = PublicSize::Declared(1 << 60)
        }),
        ("bytes of fragment SQL", |plan| {
            plan.fragments[0].sql = "x".repeat(1 << 17);
        }),
    ];
    let mut wrong = Vec::new();
    for (word, change) in cases {
        let message = refused(change);
        if !message.contains(word) {
            wrong.push(format!("{word}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
