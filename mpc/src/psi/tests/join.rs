//! Aligned joins against the clear join, with bytes counted.

use super::*;

/// Checks one alignment against the clear join and the traffic formula.
fn check(number: u64, plan: &AlignPlan, keys: &[Vec<u64>]) {
    let mut stream = Stream::new(&[number as u8; 16]);
    let tables: Vec<OwnerTable> = plan
        .owners
        .iter()
        .zip(keys)
        .map(|(owner, keys)| table(number, keys, &owner.columns, &mut stream))
        .collect();
    let ends = run(number, plan, &tables);
    let (columns, valid) = open(plan.rows(), &ends);
    assert_eq!(valid.len(), plan.rows());
    let mut got: Vec<String> = (0..plan.rows())
        .filter(|&row| valid[row])
        .map(|row| shown(&rows_of(&columns, row)))
        .collect();
    let mut due: Vec<String> = keys[0]
        .iter()
        .filter_map(|key| {
            let rows: Option<Vec<ClearColumn>> = keys
                .iter()
                .zip(&tables)
                .map(|(keys, table)| {
                    let row = keys.iter().position(|other| other == key)?;
                    Some(rows_of(&table.columns, row))
                })
                .collect::<Option<Vec<_>>>()
                .map(|rows| rows.concat());
            Some(shown(&rows?))
        })
        .collect();
    got.sort();
    due.sort();
    assert_eq!(got, due, "run {number}");
    let sent: u64 = ends.values().map(|end| end.traffic.bytes_sent).sum();
    let received: u64 = ends.values().map(|end| end.traffic.bytes_received).sum();
    assert_eq!(
        (sent, received),
        (traffic_formula(plan), sent),
        "run {number}"
    );
}

/// `count` distinct keys below `range`.
pub(super) fn some_keys(count: usize, range: usize, stream: &mut Stream) -> Vec<u64> {
    stream
        .permutation(range.max(count))
        .into_iter()
        .take(count)
        .map(u64::from)
        .collect()
}

#[test]
fn equals_the_clear_join_over_random_tables() {
    let mut stream = Stream::new(&[1; 16]);
    let kinds: [&[ColumnKind]; 5] = [&[], &[A64], &[BITS, A128], &[A64, FLAG], &[A128, A64, BITS]];
    for number in 0..200_u64 {
        let mut draw = |below: u32| {
            let mut word = [0_u32];
            stream.fill(&mut word);
            (word[0] % below) as usize
        };
        let count = [2, 2, 3, 4][draw(4)];
        let dummies = match draw(3) {
            0 => Dummies::NONE,
            _ => Dummies::new(2, 1, 20).unwrap(),
        };
        let range = [1, 5, 80, 400][draw(4)];
        let order = [[0, 1, 3, 4], [3, 1, 0, 4], [1, 0, 4, 3]][draw(3)];
        let order = if count == 2 { [0, 1, 3, 4] } else { order };
        let who: Vec<u8> = order.into_iter().take(count).collect();
        let who = if who.contains(&0) && who.contains(&1) {
            who
        } else {
            vec![0, 1, 3]
        };
        let sizes: Vec<usize> = who.iter().map(|_| draw(range as u32 + 1)).collect();
        let shapes: Vec<&[ColumnKind]> = who.iter().map(|_| kinds[draw(5)]).collect();
        let extra: Vec<usize> = who.iter().map(|_| draw(30)).collect();
        let holders: Vec<u8> = who
            .iter()
            .map(|&owner| match owner {
                0 => 1,
                1 => 0,
                _ => draw(2) as u8,
            })
            .collect();
        let keys: Vec<Vec<u64>> = sizes
            .iter()
            .map(|&size| some_keys(size, range, &mut stream))
            .collect();
        let owners: Vec<(u8, u8, usize, &[ColumnKind])> = (0..who.len())
            .map(|i| {
                let padded = sizes[i] + dummies.headroom(count) + extra[i];
                (who[i], holders[i], padded, shapes[i])
            })
            .collect();
        check(number, &plan_of(&owners, dummies), &keys);
    }
}

#[test]
fn extremes_join() {
    let plan = |rows_a, rows_b| {
        let owners: [(u8, u8, usize, &[ColumnKind]); 2] =
            [(0, 1, rows_a, &[A64]), (1, 0, rows_b, &[BITS])];
        plan_of(&owners, Dummies::NONE)
    };
    let all: Vec<u64> = (0..100).collect();
    let other: Vec<u64> = (100..200).collect();
    check(200, &plan(0, 0), &[vec![], vec![]]);
    check(201, &plan(0, 100), &[vec![], all.clone()]);
    check(202, &plan(1, 1), &[vec![5], vec![5]]);
    check(203, &plan(1, 1), &[vec![5], vec![6]]);
    check(204, &plan(100, 100), &[all.clone(), all.clone()]);
    check(205, &plan(100, 100), &[all.clone(), other]);
    check(206, &plan(100, 164), &[all.clone(), all[50..].to_vec()]);
}

#[test]
fn several_frames_of_rows_join() {
    let rows = 12 * plan::CHUNK + 77;
    let keys: Vec<u64> = (0..rows as u64).collect();
    let shifted: Vec<u64> = (0..rows as u64 - 50_000).map(|key| key + 60_000).collect();
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, rows, &[A64]), (1, 0, rows, &[FLAG])];
    let plan = plan_of(&owners, Dummies::NONE);
    let mut stream = Stream::new(&[1; 16]);
    let tables = [
        OwnerTable {
            tags: tags(300, &keys),
            columns: vec![ClearColumn::Arith64(keys.clone())],
        },
        table(300, &shifted, &[FLAG], &mut stream),
    ];
    let ends = run(300, &plan, &tables);
    let (columns, valid) = open(plan.rows(), &ends);
    let ClearColumn::Arith64(words) = &columns[0] else {
        unreachable!()
    };
    let mut got: Vec<u64> = words
        .iter()
        .zip(&valid)
        .filter_map(|(&w, &v)| v.then_some(w))
        .collect();
    got.sort_unstable();
    assert_eq!(got, (60_000..rows as u64).collect::<Vec<_>>());
    let sent: u64 = ends.values().map(|end| end.traffic.bytes_sent).sum();
    assert_eq!(sent, traffic_formula(&plan));
}

/// Checks a left, semi or anti join of `keys[0]` with the others.
fn check_kind(number: u64, plan: &AlignPlan, keys: &[Vec<u64>]) {
    let mut stream = Stream::new(&[number as u8; 16]);
    let tables: Vec<OwnerTable> = plan
        .owners
        .iter()
        .zip(keys)
        .map(|(owner, keys)| table(number, keys, &owner.columns, &mut stream))
        .collect();
    let ends = run(number, plan, &tables);
    let (columns, valid) = open(plan.rows(), &ends);
    let got: Vec<String> = (0..plan.rows())
        .filter(|&row| valid[row])
        .map(|row| shown(&rows_of(&columns, row)))
        .collect();
    let zeros: Vec<ClearColumn> = plan.owners[1]
        .columns
        .iter()
        .map(|&kind| ClearColumn::with_capacity(kind, 0).gather(&[0]))
        .collect();
    let mut due = Vec::new();
    for (row, key) in keys[0].iter().enumerate() {
        let mut cells = rows_of(&tables[0].columns, row);
        let matched = keys[1..].iter().all(|keys| keys.contains(key));
        match plan.kind {
            AlignKind::Left => {
                let partner = keys[1].iter().position(|other| other == key);
                cells.extend(partner.map_or(zeros.clone(), |r| rows_of(&tables[1].columns, r)));
                let words = vec![u64::from(matched)];
                cells.push(ClearColumn::Bits { width: 1, words });
            }
            kind if (kind == AlignKind::Semi) != matched => continue,
            _ => {}
        }
        due.push(shown(&cells));
    }
    let (mut got, mut due) = (got, due);
    got.sort();
    due.sort();
    assert_eq!(got, due, "run {number} {:?}", plan.kind);
    if plan.kind != AlignKind::Left {
        let sent: u64 = ends.values().map(|end| end.traffic.bytes_sent).sum();
        assert_eq!(sent, traffic_formula(plan), "run {number}");
    }
}

#[test]
fn left_semi_and_anti_joins_equal_the_clear_join() {
    let mut stream = Stream::new(&[2; 16]);
    for number in 1000..1240_u64 {
        let mut draw = |below: u32| {
            let mut word = [0_u32];
            stream.fill(&mut word);
            (word[0] % below) as usize
        };
        let kind = [AlignKind::Left, AlignKind::Semi, AlignKind::Anti][number as usize % 3];
        let count = if kind == AlignKind::Left {
            2
        } else {
            2 + draw(2)
        };
        let dummies = match draw(3) {
            0 => Dummies::NONE,
            _ => Dummies::new(2, 1, 20).unwrap(),
        };
        let range = [1, 5, 80, 300][draw(4)];
        let shapes: [&[ColumnKind]; 4] = [&[], &[A64], &[BITS, A128], &[A64, FLAG]];
        let (first, second) = (shapes[draw(4)], shapes[draw(4)]);
        let sizes: Vec<usize> = (0..count).map(|_| draw(range as u32 + 1)).collect();
        let mut padded: Vec<usize> = sizes
            .iter()
            .map(|size| size + dummies.headroom(count) + draw(30))
            .collect();
        for other in 1..count {
            padded[other] = padded[other].max(padded[0]);
        }
        let keys: Vec<Vec<u64>> = sizes
            .iter()
            .map(|&size| some_keys(size, range, &mut stream))
            .collect();
        let who = [[0, 1, 3], [1, 0, 3]][number as usize / 3 % 2];
        let owners: Vec<(u8, u8, usize, &[ColumnKind])> = (0..count)
            .map(|i| {
                let shape = match (i, kind) {
                    (0, _) => first,
                    (_, AlignKind::Left) => second,
                    _ => &[],
                };
                (who[i], u8::from(who[i] == 0), padded[i], shape)
            })
            .collect();
        let mut plan = plan_of(&owners, dummies);
        plan.kind = kind;
        check_kind(number, &plan, &keys);
    }
}
