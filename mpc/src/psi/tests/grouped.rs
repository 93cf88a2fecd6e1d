//! Sums by group against clear sums; what each party sees of them.

use super::join::some_keys;
use super::*;
use crate::error::Error;

/// Checks a grouped alignment against clear sums.
fn check_groups(number: u64, plan: &GroupPlan, keys: &[Vec<u64>], groups: &Groups) {
    let mut stream = Stream::new(&[number as u8; 16]);
    let tables: Vec<OwnerTable> = plan
        .align
        .owners
        .iter()
        .zip(keys)
        .map(|(owner, keys)| table(number, keys, &owner.columns, &mut stream))
        .collect();
    let ends = run_groups(network(5), number, plan, &tables, groups);
    let (columns, valid) = open(plan.padded_groups, &ends);
    let mut got: Vec<String> = (0..plan.padded_groups)
        .filter(|&row| valid[row])
        .map(|row| shown(&rows_of(&columns, row)))
        .collect();
    let mut sums: BTreeMap<u32, (Vec<u128>, u64)> = BTreeMap::new();
    for key in &keys[0] {
        let rows: Option<Vec<usize>> = keys
            .iter()
            .map(|keys| keys.iter().position(|other| other == key))
            .collect();
        let Some(rows) = rows else { continue };
        let cells = tables.iter().zip(&rows).flat_map(|(table, &row)| {
            table.columns.iter().map(move |column| match column {
                ClearColumn::Arith64(words) => u128::from(words[row]),
                ClearColumn::Arith128(words) => words[row],
                ClearColumn::Bits { .. } => unreachable!(),
            })
        });
        let cells: Vec<u128> = cells.collect();
        let group = sums
            .entry(groups.of_row[rows[plan.by]])
            .or_insert((vec![0; cells.len()], 0));
        for (sum, cell) in group.0.iter_mut().zip(cells) {
            *sum = sum.wrapping_add(cell);
        }
        group.1 += 1;
    }
    let kinds = plan.align.owners.iter().flat_map(|owner| &owner.columns);
    let kinds: Vec<ColumnKind> = kinds.copied().collect();
    let mut due: Vec<String> = sums
        .into_iter()
        .map(|(group, (sums, count))| {
            let mut cells = rows_of(&groups.keys, group as usize);
            cells.extend(kinds.iter().zip(sums).map(|(kind, sum)| match kind {
                ColumnKind::Arith128 => ClearColumn::Arith128(vec![sum]),
                _ => ClearColumn::Arith64(vec![sum as u64]),
            }));
            cells.push(ClearColumn::Arith64(vec![count]));
            shown(&cells)
        })
        .collect();
    got.sort();
    due.sort();
    assert_eq!(got, due, "run {number}");
}

#[test]
fn grouped_alignments_equal_clear_sums() {
    let mut stream = Stream::new(&[3; 16]);
    for number in 2000..2200_u64 {
        let mut draw = |below: u32| {
            let mut word = [0_u32];
            stream.fill(&mut word);
            (word[0] % below) as usize
        };
        let count = 2 + draw(2);
        let dummies = match draw(3) {
            0 => Dummies::NONE,
            _ => Dummies::new(2, 1, 20).unwrap(),
        };
        let range = [1, 5, 80, 300][draw(4)];
        let shapes: [&[ColumnKind]; 4] = [&[], &[A64], &[A128], &[A64, A128]];
        let names: [&[ColumnKind]; 3] = [&[BITS], &[A64, FLAG], &[FLAG]];
        let sizes: Vec<usize> = (0..count).map(|_| draw(range as u32 + 1)).collect();
        let by = draw(count as u32);
        let real_groups = 1 + draw(9);
        let who = [[0, 1, 3], [1, 3, 0]][number as usize % 2];
        let who = if count == 2 { [0, 1, 3] } else { who };
        let owners: Vec<(u8, u8, usize, &[ColumnKind])> = (0..count)
            .map(|i| {
                let padded = sizes[i] + dummies.headroom(count) + draw(30);
                (who[i], u8::from(who[i] == 0), padded, shapes[draw(4)])
            })
            .collect();
        let of_row = (0..sizes[by])
            .map(|_| draw(real_groups as u32) as u32)
            .collect();
        let mut align = plan_of(&owners, dummies);
        align.kind = AlignKind::Groups;
        let plan = GroupPlan {
            align,
            by,
            padded_groups: real_groups + draw(5),
            keys: names[draw(3)].to_vec(),
        };
        let keys: Vec<Vec<u64>> = sizes
            .iter()
            .map(|&size| some_keys(size, range, &mut stream))
            .collect();
        let names = table(number, &vec![0; real_groups], &plan.keys, &mut stream);
        let groups = Groups {
            of_row,
            keys: names.columns,
        };
        check_groups(number, &plan, &keys, &groups);
    }
}

/// Owners A and B of 40 rows each, all of which match; the group of each of A's rows, and a seed of
/// payloads.
fn all_match(number: u64, of_row: Vec<u32>, payload: u8) -> (GroupPlan, BTreeMap<u8, End>) {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] =
        [(0, 1, 60, &[A64]), (1, 0, 70, &[A128, A64])];
    let mut align = plan_of(&owners, Dummies::NONE);
    align.kind = AlignKind::Groups;
    let plan = GroupPlan {
        align,
        by: 0,
        padded_groups: 5,
        keys: vec![BITS],
    };
    let mut stream = Stream::new(&[payload; 16]);
    let keys: Vec<u64> = (0..40).map(|key| key + 1000 * u64::from(payload)).collect();
    let tables = [
        table(number, &keys, &[A64], &mut stream),
        table(number, &keys, &[A128, A64], &mut stream),
    ];
    let names = table(number, &[0; 5], &plan.keys, &mut stream);
    let groups = Groups {
        of_row,
        keys: names.columns,
    };
    let ends = run_groups(network(5), number, &plan, &tables, &groups);
    (plan, ends)
}

#[test]
fn views_depend_on_group_sizes_alone() {
    let by_four: Vec<u32> = (0..40).map(|row| row % 4).collect();
    let shape = |ends: &BTreeMap<u8, End>| -> Vec<(u8, String, usize)> {
        ends.iter()
            .flat_map(|(&me, end)| {
                end.view
                    .iter()
                    .map(move |frame| (me, frame.step.path().to_owned(), frame.payload.len()))
            })
            .collect()
    };
    let mut turned = by_four.clone();
    turned.rotate_left(1);
    let (plan, one) = all_match(9, by_four, 1);
    let (_, other) = all_match(9, turned, 2);
    assert_eq!(shape(&one), shape(&other));
    // An owner gets nothing of its own columns or groups, and holds the same for any values.
    for (me, parts, columns) in [(0, vec![0, 2], vec![0, 1]), (1, vec![1], vec![2, 3])] {
        let own = |ends: &BTreeMap<u8, End>, column: usize| {
            let table = ends[&me].output.as_ref().unwrap().as_ref().unwrap();
            components(&table.columns[column])
        };
        for column in columns {
            assert!(own(&one, column) == own(&other, column), "#{me} {column}");
        }
        for part in parts {
            let about = format!("join/owner{part}/");
            let view = &one[&me].view;
            assert!(view.iter().all(|f| !f.step.path().starts_with(&about)));
        }
    }
    // Bytes: rows, positions of the 40 matches, groups, sizes; then 32-bit circuits over 5 rows.
    let sent: u64 = one.values().map(|end| end.traffic.bytes_sent).sum();
    let rows = |padded: usize, width: usize| padded * (plan::TAG_BYTES + width);
    let handed = rows(60, 8 + 4) + rows(70, 24) + BITS.wire_bytes(5) + 8 * 5;
    let halves = 2 * (8 * 5 + 24 * 5 + BITS.wire_bytes(5) + 8 * 5);
    let due = handed + 4 * (40 + 40 + 5) + 2 * 4 * 5 + halves;
    let circuits = sent - due as u64;
    assert!((1..8000).contains(&circuits), "{circuits}");
    assert_eq!(plan.padded_groups, 5);
}

#[test]
fn groups_that_do_not_fit_the_plan_are_refused_before_anything_is_sent() {
    for of_row in [vec![5; 40], vec![0; 39], vec![0; 41]] {
        let (_, ends) = all_match(3, of_row, 1);
        let refused = &ends[&0];
        assert!(matches!(refused.output, Err(Error::InvalidInput { .. })));
        assert_eq!(refused.traffic.bytes_sent, 0);
        assert!(matches!(ends[&2].output, Err(Error::PeerGone { .. })));
    }
    let mut align = plan_of(&[(0, 1, 9, &[BITS]), (1, 0, 9, &[])], Dummies::NONE);
    align.kind = AlignKind::Groups;
    let mut plan = GroupPlan {
        align,
        by: 0,
        padded_groups: 3,
        keys: vec![],
    };
    assert!(plan.validate(&COMPUTING).is_err(), "bits are no numbers");
    plan.align.owners[0].columns = vec![A64];
    assert!(plan.validate(&COMPUTING).is_ok());
    for change in [
        |plan: &mut GroupPlan| plan.by = 2,
        |plan: &mut GroupPlan| plan.padded_groups = 0,
        |plan: &mut GroupPlan| plan.align.kind = AlignKind::Inner,
    ] {
        let mut changed = plan.clone();
        change(&mut changed);
        assert!(changed.validate(&COMPUTING).is_err());
    }
}
