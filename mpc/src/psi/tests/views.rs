//! What each party gets to see.

use super::*;

/// Two owners with `matches` common keys out of 40 each.
fn overlap(matches: usize) -> [Vec<u64>; 2] {
    let left = (0..40).collect();
    let right = (0..40)
        .map(|i| if i < matches as u64 { i } else { i + 1000 })
        .collect();
    [left, right]
}

fn overlap_plan() -> AlignPlan {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] =
        [(0, 1, 200, &[A64]), (1, 0, 220, &[A64, BITS])];
    plan_of(&owners, Dummies::new(1, 1, 30).unwrap())
}

fn overlap_run(number: u64, matches: usize) -> BTreeMap<u8, End> {
    let plan = overlap_plan();
    let mut stream = Stream::new(&[7; 16]);
    let keys = overlap(matches);
    let tables = [
        table(number, &keys[0], &plan.owners[0].columns, &mut stream),
        table(number, &keys[1], &plan.owners[1].columns, &mut stream),
    ];
    run(number, &plan, &tables)
}

#[test]
fn views_have_one_shape_for_all_match_sets() {
    let shape = |ends: &BTreeMap<u8, End>| -> Vec<(u8, String, usize)> {
        ends.iter()
            .flat_map(|(&me, end)| {
                end.view
                    .iter()
                    .map(move |frame| (me, frame.step.path().to_owned(), frame.payload.len()))
            })
            .collect()
    };
    let none = overlap_run(400, 0);
    for matches in [1, 20, 40] {
        let some = overlap_run(400, matches);
        assert_eq!(shape(&none), shape(&some));
        // Whoever is the third party for a column holds the same words for any match set, and no
        // frame brings it anything of that column.
        for (me, index) in [(0, 0), (1, 1)] {
            let own = |ends: &BTreeMap<u8, End>| {
                let table = ends[&me].output.as_ref().unwrap().as_ref().unwrap();
                components(&table.columns[index])
            };
            assert!(own(&none) == own(&some));
            let about_own = format!("join/owner{index}/");
            let view = &some[&me].view;
            assert!(
                view.iter()
                    .all(|frame| !frame.step.path().starts_with(&about_own))
            );
        }
    }
}

/// Bits set among all bits of the frames that `pick` chooses, and how many bits there are.
fn ones(view: &[Received], pick: impl Fn(&str) -> bool) -> (u64, u64) {
    let mut counts = (0, 0);
    for frame in view.iter().filter(|frame| pick(frame.step.path())) {
        counts.0 += frame
            .payload
            .iter()
            .map(|b| u64::from(b.count_ones()))
            .sum::<u64>();
        counts.1 += 8 * frame.payload.len() as u64;
    }
    counts
}

#[test]
fn what_owners_and_the_neutral_party_receive_looks_random() {
    for matches in [0, 40] {
        let ends = overlap_run(500, matches);
        let words = |path: &str| path.contains("column0") || path.contains("tags");
        let random = |me: u8, words: &dyn Fn(&str) -> bool, least: u64| {
            let (set, all) = ones(&ends[&me].view, words);
            assert!(all >= least, "#{me}: {all} bits");
            assert!((set.abs_diff(all / 2) as f64) < 2.5 * (all as f64).sqrt());
        };
        for me in [0, 1, 2] {
            random(me, &words, 10_000);
            // The gates that put validity together: two planes of 200 rows.
            random(me, &|path| path.contains("/valid/"), 512);
        }
        // The match bit goes to the party after the neutral one, masked.
        random(0, &|path| path.contains("/matched"), 256);
        let other = ones(&ends[&1].view, |path| path.contains("/matched"));
        assert_eq!(other, (0, 0));
    }
}

#[test]
fn positions_do_not_depend_on_the_matches() {
    // B's position of the first output row, as A sees it: uniform over 12 padded rows, with no match
    // and with all keys matching.
    for (kind, keys) in [
        (AlignKind::Inner, [vec![1, 2, 3], vec![7, 8, 9]]),
        (AlignKind::Inner, [vec![1, 2, 3], vec![3, 1, 2]]),
        (AlignKind::Semi, [vec![1, 2, 3], vec![3, 1, 2]]),
        (AlignKind::Anti, [vec![1, 2, 3], vec![7, 8, 9]]),
    ] {
        let payload: &[ColumnKind] = match kind {
            AlignKind::Inner => &[FLAG],
            _ => &[],
        };
        let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 4, &[]), (1, 0, 12, payload)];
        let mut plan = plan_of(&owners, Dummies::NONE);
        plan.kind = kind;
        let mut counts = [0_u32; 12];
        for number in 0..1800 {
            let mut stream = Stream::new(&[7; 16]);
            let tables = [
                table(number, &keys[0], &[], &mut stream),
                table(number, &keys[1], payload, &mut stream),
            ];
            let ends = run(number, &plan, &tables);
            let view = &ends[&0].view;
            let frame = view
                .iter()
                .find(|f| f.step.path().contains("positions"))
                .unwrap();
            counts[usize::from(frame.payload[0])] += 1;
        }
        // 150 expected, standard deviation 12.
        assert!(counts.iter().all(|&n| (95..205).contains(&n)), "{counts:?}");
    }
}

#[test]
fn no_key_and_no_value_crosses() {
    let canary_key = 0x5ca1_ab1e_0ddb_a115;
    let canary_value = 0xdead_beef_cafe_f00d;
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 60, &[A64]), (1, 0, 60, &[A64])];
    let plan = plan_of(&owners, Dummies::new(1, 1, 20).unwrap());
    let tables = [0, 1].map(|_| OwnerTable {
        tags: tags(600, &[canary_key, 1]),
        columns: vec![ClearColumn::Arith64(vec![canary_value, canary_value])],
    });
    let ends = run(600, &plan, &tables);
    let mut bytes = 0;
    for end in ends.values() {
        for frame in &end.view {
            bytes += frame.payload.len();
            for canary in [canary_key, canary_value] {
                for order in [canary.to_le_bytes(), canary.to_be_bytes()] {
                    assert!(!frame.payload.windows(8).any(|window| window == order));
                }
            }
        }
    }
    assert_eq!(bytes as u64, traffic_formula(&plan));
    // The canaries are found where they should be: in the opened result.
    let (columns, valid) = open(plan.rows(), &ends);
    assert_eq!(valid.iter().filter(|&&v| v).count(), 2);
    assert!(shown(&columns).contains(&canary_value.to_string()));
}

#[test]
fn the_neutral_party_sees_the_noisy_number_of_matches() {
    // Over many runs the number of equal tags is matches plus a varying number of dummies.
    let plan = overlap_plan();
    let mut seen = std::collections::BTreeSet::new();
    for number in 700..730 {
        let ends = overlap_run(number, 10);
        let bytes = plan::TAG_BYTES;
        let mut counts: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for frame in &ends[&2].view {
            if frame.step.path().contains("tags") {
                for tag in frame.payload.chunks(bytes) {
                    *counts.entry(tag.to_vec()).or_default() += 1;
                }
            }
        }
        let matches = counts.values().filter(|&&n| n == 2).count();
        assert!((10..=10 + plan.dummies.most()).contains(&matches));
        seen.insert(matches);
        let (_, valid) = open(plan.rows(), &ends);
        assert_eq!(valid.iter().filter(|&&v| v).count(), 10);
    }
    assert!(seen.len() > 3);
}

#[test]
fn every_overlap_of_three_owners_is_noisy() {
    // No common keys at all: what the neutral party counts for each set of owners is noise.
    let dummies = Dummies::new(1, 1, 20).unwrap();
    let rows = 10 + dummies.headroom(3);
    let owners: [(u8, u8, usize, &[ColumnKind]); 3] =
        [(0, 1, rows, &[]), (1, 0, rows, &[]), (3, 0, rows, &[])];
    let plan = plan_of(&owners, dummies);
    let mut seen: BTreeMap<Vec<Participant>, Vec<usize>> = BTreeMap::new();
    for number in 900..920 {
        let tables = [0_u64, 100, 200].map(|first| OwnerTable {
            tags: tags(number, &(first..first + 10).collect::<Vec<_>>()),
            columns: vec![],
        });
        let ends = run(number, &plan, &tables);
        assert!(open(plan.rows(), &ends).1.iter().all(|valid| !valid));
        let mut holders: BTreeMap<Vec<u8>, Vec<Participant>> = BTreeMap::new();
        for frame in &ends[&2].view {
            if frame.step.path().contains("tags") {
                for tag in frame.payload.chunks(plan::TAG_BYTES) {
                    holders.entry(tag.to_vec()).or_default().push(frame.from);
                }
            }
        }
        let mut counts: BTreeMap<Vec<Participant>, usize> = BTreeMap::new();
        for set in holders.into_values().filter(|set| set.len() > 1) {
            *counts.entry(set).or_default() += 1;
        }
        for (set, count) in counts {
            assert!(count <= dummies.most());
            seen.entry(set).or_default().push(count);
        }
    }
    assert_eq!(seen.len(), 4);
    for counts in seen.values() {
        assert!(counts.iter().any(|count| *count != counts[0]));
    }
}
