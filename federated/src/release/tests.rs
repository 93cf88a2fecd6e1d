//! Guards over small tables, opened and compared with what a reader expects.

use super::decode::Words;
use super::guard::{CellPlace, KeyPlace, Unguarded, apply};
use super::open::opened;
use crate::plan::{
    Cell, ColumnRef, Encoding, Engine, Fragment, FragmentColumn, JointPlan, Line, Operator, Party,
    PublicSize, Release, UnitCount,
};
use crate::schema::ScalarType;
use std::sync::Arc;
use veilgate_mpc::context::Context;
use veilgate_mpc::net::memory::network;
use veilgate_mpc::net::{LinkProfile, Participant, Step};
use veilgate_mpc::prss::{Prss, Seed};
use veilgate_mpc::release::final_share;
use veilgate_mpc::share::{Arith, BitColumn, Role};
use veilgate_mpc::table::{Column, SharedTable};

const KEY: ColumnRef = ColumnRef {
    fragment: 0,
    column: 0,
};
const NUMBER: ColumnRef = ColumnRef {
    fragment: 0,
    column: 1,
};

/// Groups by a code; one sum with its own guard; the second unit count guards groups.
fn plan(global: bool, k: [u32; 2], public_groups: Option<u64>) -> JointPlan {
    let column = |data_type, encoding| FragmentColumn {
        data_type,
        nullable: false,
        encoding,
        label: String::new(),
    };
    let codes = (0..16).map(|code| code.to_string()).collect();
    let unit = |argument, k| UnitCount {
        owner: 0,
        unit: None,
        argument,
        k,
    };
    JointPlan {
        engine: Engine {
            version: String::new(),
            config_hash: [0; 32],
        },
        parties: (0..3)
            .map(|seat| Party {
                department: ["civil", "social", "tax"][usize::from(seat)].to_owned(),
                computing: Some(seat),
                result: seat == 0,
                catalog_version: None,
            })
            .collect(),
        fragments: vec![Fragment {
            owner: 0,
            sql: String::new(),
            columns: vec![
                column(ScalarType::Utf8, Encoding::Codes(codes)),
                column(ScalarType::Int64, Encoding::Ring64),
            ],
            size: PublicSize::Bucket,
            estimated_rows: 1,
            unique_key: true,
        }],
        operators: vec![Operator::Aggregate {
            input: 0,
            keys: if global { vec![] } else { vec![KEY] },
            cells: vec![Cell {
                sum: Some(NUMBER),
                weights: vec![],
                argument: Some(NUMBER),
                guards: vec![0, 1],
            }],
            units: vec![unit(Some(NUMBER), k[0]), unit(None, k[1])],
        }],
        release: Release {
            input: 0,
            columns: vec![],
            group_guards: vec![1],
            public_groups,
            sql: String::new(),
            output: vec![],
        },
        line: Line::default(),
    }
}

/// (valid, key, sum, units with a number, units)
type Group = (bool, u64, i64, u64, u64);

/// Applies the guards at three parties and opens: (key, sum) of released groups, and how many rows
/// the final shares have.
fn guarded(plan: &JointPlan, groups: &[Group], rows: usize) -> (Vec<(u64, Option<i64>)>, usize) {
    let seed = |number: usize| Seed([u8::try_from(number).unwrap(); 32]);
    let participants = [0, 1, 2].map(Participant);
    let shares: Vec<(Vec<u8>, usize)> = std::thread::scope(|scope| {
        let workers: Vec<_> = network(3)
            .into_iter()
            .zip(Role::ALL)
            .map(|(link, role)| {
                scope.spawn(move || {
                    let prss = Prss::new(seed(role.index()), seed((role.index() + 1) % 3));
                    let mut ctx = Context::new(
                        role,
                        participants,
                        Box::new(link),
                        prss,
                        LinkProfile::LOOPBACK,
                        Arc::default(),
                    )
                    .unwrap();
                    let count = groups.len();
                    let bits = |width, of: fn(&Group) -> u64| {
                        let words: Vec<u64> = groups.iter().map(of).collect();
                        BitColumn::public(role, width, count, &words).unwrap()
                    };
                    let ring = |of: fn(&Group) -> u64| {
                        let words: Vec<u64> = groups.iter().map(of).collect();
                        Column::Arith64(Arith::public(role, &words))
                    };
                    let key = bits(4, |group| group.1);
                    let global = matches!(&plan.operators[0],
                        Operator::Aggregate { keys, .. } if keys.is_empty());
                    let first = usize::from(!global);
                    let mut columns = vec![
                        ring(|group| group.2.cast_unsigned()),
                        ring(|group| group.3),
                        ring(|group| group.4),
                    ];
                    if !global {
                        columns.insert(0, Column::Bits(key));
                    }
                    let unguarded = Unguarded {
                        table: SharedTable {
                            columns,
                            valid: bits(1, |group| u64::from(group.0)),
                        },
                        keys: (0..first)
                            .map(|value| KeyPlace { value, null: None })
                            .collect(),
                        cells: vec![CellPlace {
                            value: first,
                            some: None,
                        }],
                        units: vec![first + 1, first + 2],
                        joined_rows: rows,
                    };
                    let step = Step::new("release");
                    let table = apply(&mut ctx, &step, plan, unguarded).unwrap();
                    (final_share(role, &table), table.rows())
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let size = shares[0].1;
    let shares: Vec<Vec<u8>> = shares.into_iter().map(|(share, _)| share).collect();
    let shares: [Vec<u8>; 3] = shares.try_into().unwrap();
    let result = opened(plan, &shares).unwrap();
    let keys: Vec<u64> = match result.keys.first().map(|key| &key.words) {
        Some(Words::Bits { words, .. }) => words.clone(),
        _ => vec![0; result.rows],
    };
    let Words::Ring64(sums) = &result.cells[0].words else {
        panic!("a sum in Z_2^64");
    };
    let nulls = result.cells[0].nulls.as_ref().unwrap();
    let sums = sums.iter().zip(nulls).map(|(sum, null)| {
        if *null {
            assert_eq!(*sum, 0, "what is withheld is zero");
        }
        (!null).then_some(sum.cast_signed())
    });
    (keys.into_iter().zip(sums).collect(), size)
}

#[test]
fn groups_and_cells_below_k_are_withheld() {
    let groups = [
        (true, 1, -5, 3, 3),
        // Garbage in a row that is no group.
        (false, 2, 99, 77, 1 << 40),
        // The group stays, its sum does not.
        (true, 3, 7, 2, 3),
        (true, 4, 8, 2, 2),
        (true, 5, 9, 0, 4),
        (true, 6, 10, 4, 4),
    ];
    let plan = plan(false, [3, 3], None);
    let (rows, size) = guarded(&plan, &groups, 18);
    assert_eq!(rows, [(1, Some(-5)), (3, None), (5, None), (6, Some(10))]);
    assert_eq!(size, 6, "18 rows hold at most 6 groups of 3");
}

#[test]
fn a_public_domain_bounds_the_rows() {
    let groups: Vec<Group> = (0..40)
        .map(|row| (row < 3, u64::try_from(row).unwrap(), row * 10, 9, 9))
        .collect();
    let plan = plan(false, [1, 1], Some(4));
    let (rows, size) = guarded(&plan, &groups, 40);
    assert_eq!(rows, [(0, Some(0)), (1, Some(10)), (2, Some(20))]);
    assert_eq!(size, 4);
}

#[test]
fn no_group_is_released_as_one_row_of_nothing() {
    let plan = plan(false, [5, 5], None);
    let (rows, size) = guarded(&plan, &[(true, 1, 1, 4, 4)], 4);
    assert!(rows.is_empty());
    assert_eq!(size, 1);
}

#[test]
fn a_global_aggregate_keeps_its_row() {
    for (units, shown) in [(0, false), (1, false), (4, false), (5, true)] {
        for valid in [true, false] {
            let plan = plan(true, [5, 5], None);
            let (rows, size) = guarded(&plan, &[(valid, 0, 12, units, units)], 100);
            assert_eq!(rows, [(0, shown.then_some(12))]);
            assert_eq!(size, 1);
        }
    }
    // The group guards bind the cells of a global aggregate too.
    let plan = plan(true, [1, 5], None);
    let (rows, _) = guarded(&plan, &[(true, 0, 12, 4, 4)], 100);
    assert_eq!(rows, [(0, None)]);
}

#[test]
fn shares_that_disagree_are_refused() {
    let plan = plan(true, [1, 1], None);
    let good = [vec![], vec![], vec![]];
    assert!(opened(&plan, &good).is_err(), "no shares at all");
}
