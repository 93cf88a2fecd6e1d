//! Aligned joins against a clear join, and what each party gets to see.

use super::align::{align_input_owner, align_neutral, align_owner};
use super::plan::{AlignPlan, OwnerPlan, OwnerSecrets, OwnerTable};
use super::tag::Tagger;
use super::{Dummies, plan};
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::input::{ClearColumn, ColumnKind, Component};
use crate::net::memory::{MemoryLink, network};
use crate::net::recording::{Received, Recording, View};
use crate::net::{Link, Participant, Step, Traffic};
use crate::prss::{Prss, Seed, Stream};
use crate::share::Role;
use crate::table::{Column, SharedTable};
use std::collections::BTreeMap;
use std::time::Duration;

/// The computing parties: owner B, the neutral party C, owner A; #3 and #4 own without computing.
const COMPUTING: [Participant; 3] = [Participant(1), Participant(2), Participant(0)];
const NEUTRAL: Participant = Participant(2);

fn seed(run: u64, name: &str) -> Seed {
    Seed(*blake3::hash(format!("{run} {name}").as_bytes()).as_bytes())
}

fn secrets(run: u64, me: u8) -> OwnerSecrets {
    OwnerSecrets {
        common: seed(run, "common"),
        private: seed(run, &format!("private {me}")),
        pairwise: [0, 1, 3, 4]
            .into_iter()
            .filter(|&peer| peer != me)
            .map(|peer| {
                let (low, high) = (me.min(peer), me.max(peer));
                (Participant(peer), seed(run, &format!("{low} {high}")))
            })
            .collect(),
    }
}

/// The context of a computing party; pairwise seed `i` is common to `P_{i-1}` and `P_i`.
fn context(run: u64, link: Box<dyn Link>) -> Context {
    let index = COMPUTING.iter().position(|&p| p == link.me()).unwrap();
    let prss = Prss::new(
        seed(run, &format!("pair {index}")),
        seed(run, &format!("pair {}", (index + 1) % 3)),
    );
    let profile = link.profile();
    Context::new(
        Role::ALL[index],
        COMPUTING,
        link,
        prss,
        profile,
        Default::default(),
    )
    .unwrap()
}

/// What one participant ends with.
struct End {
    output: Result<Option<SharedTable>>,
    traffic: Traffic,
    view: Vec<Received>,
}

/// Runs one alignment over `links`; `tables[i]` is that of `plan.owners[i]`.
fn run_over(
    links: Vec<MemoryLink>,
    run: u64,
    plan: &AlignPlan,
    tables: &[OwnerTable],
) -> BTreeMap<u8, End> {
    let step = Step::new("join");
    std::thread::scope(|scope| {
        let threads: Vec<_> = links
            .into_iter()
            .map(|link| {
                let step = &step;
                scope.spawn(move || {
                    let view = View::default();
                    let me = link.me();
                    let mut link: Box<dyn Link> = Box::new(Recording::new(link, &view));
                    let table = plan.index_of(me).ok().map(|index| tables[index].clone());
                    let output = if COMPUTING.contains(&me) {
                        let mut ctx = context(run, link);
                        let output = match table {
                            Some(table) => {
                                align_owner(&mut ctx, step, plan, table, &secrets(run, me.0))
                            }
                            None => align_neutral(&mut ctx, step, plan, &seed(run, "neutral")),
                        };
                        link = ctx.into_link();
                        output.map(Some)
                    } else if let Some(table) = table {
                        let secrets = secrets(run, me.0);
                        align_input_owner(&mut *link, step, plan, &COMPUTING, table, &secrets)
                            .map(|()| None)
                    } else {
                        Ok(None)
                    };
                    let end = End {
                        output,
                        traffic: link.traffic(),
                        view: view.frames(),
                    };
                    (me.0, end)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn run(run: u64, plan: &AlignPlan, tables: &[OwnerTable]) -> BTreeMap<u8, End> {
    run_over(network(5), run, plan, tables)
}

/// One party's two components of a column.
fn components(column: &Column) -> [Component; 2] {
    let bits = |c: &crate::share::BitColumn, planes: &[u64]| Component::Bits {
        width: c.width(),
        rows: c.rows(),
        planes: planes.to_vec(),
    };
    match column {
        Column::Bits(c) => [bits(c, c.components().0), bits(c, c.components().1)],
        Column::Arith64(c) => {
            let (a, b) = c.components();
            [a, b].map(|part| Component::Arith64(part.to_vec()))
        }
        Column::Arith128(c) => {
            let (a, b) = c.components();
            [a, b].map(|part| Component::Arith128(part.to_vec()))
        }
    }
}

/// Adds up the three parties' columns, and checks that they are replicated.
fn reconstruct(parties: &[&Column]) -> ClearColumn {
    let parts: Vec<[Component; 2]> = parties.iter().map(|column| components(column)).collect();
    let kind = parts[0][0].kind();
    let rows = parts[0][0].rows();
    let mut sum = Component::zeros(kind, rows);
    for (party, pieces) in parts.iter().enumerate() {
        assert!(pieces[1] == parts[(party + 1) % 3][0]);
        sum.add(&pieces[0]);
    }
    match sum {
        Component::Bits { width, planes, .. } => ClearColumn::Bits {
            width,
            words: crate::bits::to_rows(&planes, rows, width),
        },
        Component::Arith64(words) => ClearColumn::Arith64(words),
        Component::Arith128(words) => ClearColumn::Arith128(words),
    }
}

/// Opens the output: (columns of all owners in plan order, validity per row).
fn open(plan: &AlignPlan, ends: &BTreeMap<u8, End>) -> (Vec<ClearColumn>, Vec<bool>) {
    let tables: Vec<&SharedTable> = COMPUTING
        .iter()
        .map(|party| ends[&party.0].output.as_ref().unwrap().as_ref().unwrap())
        .collect();
    let count = plan.owners.iter().map(|owner| owner.columns.len()).sum();
    let columns = (0..count)
        .map(|index| {
            let parties: Vec<&Column> = tables.iter().map(|table| &table.columns[index]).collect();
            reconstruct(&parties)
        })
        .collect();
    let valid: Vec<Column> = tables
        .iter()
        .map(|table| {
            assert_eq!(table.rows(), plan.rows());
            table.check("test").unwrap();
            Column::Bits(table.valid.clone())
        })
        .collect();
    let ClearColumn::Bits { words, .. } = reconstruct(&valid.iter().collect::<Vec<_>>()) else {
        unreachable!()
    };
    (columns, words.iter().map(|&word| word == 1).collect())
}

fn tags(run: u64, keys: &[u64]) -> Vec<u128> {
    let tagger = Tagger::new(&seed(run, "tags").0, "id");
    tagger.tags(keys.len(), |row, key| key.column(&keys[row].to_le_bytes()))
}

fn rows_of(columns: &[ClearColumn], row: usize) -> Vec<ClearColumn> {
    columns.iter().map(|c| c.gather(&[row as u32])).collect()
}

fn plan_of(owners: &[(u8, u8, usize, &[ColumnKind])], dummies: Dummies) -> AlignPlan {
    AlignPlan {
        owners: owners
            .iter()
            .map(|&(who, holder, rows, columns)| OwnerPlan {
                participant: Participant(who),
                mask_holder: Participant(holder),
                padded_rows: rows,
                columns: columns.to_vec(),
            })
            .collect(),
        neutral: NEUTRAL,
        dummies,
    }
}

fn table(run: u64, keys: &[u64], kinds: &[ColumnKind], stream: &mut Stream) -> OwnerTable {
    OwnerTable {
        tags: tags(run, keys),
        columns: kinds
            .iter()
            .map(|&kind| {
                let mut column = ClearColumn::with_capacity(kind, keys.len());
                column.append_random(keys.len(), stream);
                column
            })
            .collect(),
    }
}

/// Bytes that all parties send together, from public sizes.
fn traffic_formula(plan: &AlignPlan) -> u64 {
    let (rows, tag) = (plan.rows(), plan::TAG_BYTES);
    let mut bytes = 0;
    for (index, owner) in plan.owners.iter().enumerate() {
        let kinds = plan.handed_over(index);
        bytes += owner.padded_rows * tag;
        for kind in &kinds {
            bytes += plan::chunks(owner.padded_rows)
                .map(|range| kind.wire_bytes(range.len()))
                .sum::<usize>();
            bytes += 2 * kind.wire_bytes(rows);
        }
        if !kinds.is_empty() {
            bytes += 4 * rows;
        }
    }
    bytes as u64
}

const BITS: ColumnKind = ColumnKind::Bits { width: 70 };
const FLAG: ColumnKind = ColumnKind::Bits { width: 1 };
const A64: ColumnKind = ColumnKind::Arith64;
const A128: ColumnKind = ColumnKind::Arith128;

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
    let (columns, valid) = open(plan, &ends);
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

/// The content of columns; their `Debug` does not show it.
fn shown(columns: &[ClearColumn]) -> String {
    let words = columns.iter().map(|column| match column {
        ClearColumn::Bits { words, .. } => format!("{words:?}"),
        ClearColumn::Arith64(words) => format!("{words:?}"),
        ClearColumn::Arith128(words) => format!("{words:?}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// `count` distinct keys below `range`.
fn some_keys(count: usize, range: usize, stream: &mut Stream) -> Vec<u64> {
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
    for number in 0..120_u64 {
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
    let (columns, valid) = open(&plan, &ends);
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
        for me in [0, 1, 2] {
            let (set, all) = ones(&ends[&me].view, words);
            assert!(all > 10_000);
            assert!((set.abs_diff(all / 2) as f64) < 2.5 * (all as f64).sqrt());
        }
    }
}

#[test]
fn positions_do_not_depend_on_the_matches() {
    // B's position of the first output row, as A sees it: uniform over 12 padded rows, with no match
    // and with all keys matching.
    for keys in [
        [vec![1, 2, 3], vec![7, 8, 9]],
        [vec![1, 2, 3], vec![3, 1, 2]],
    ] {
        let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 4, &[]), (1, 0, 12, &[FLAG])];
        let plan = plan_of(&owners, Dummies::NONE);
        let mut counts = [0_u32; 12];
        for number in 0..1800 {
            let mut stream = Stream::new(&[7; 16]);
            let tables = [
                table(number, &keys[0], &[], &mut stream),
                table(number, &keys[1], &[FLAG], &mut stream),
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
    let (columns, valid) = open(&plan, &ends);
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
        let (_, valid) = open(&plan, &ends);
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
        assert!(open(&plan, &ends).1.iter().all(|valid| !valid));
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

#[test]
fn duplicate_keys_stop_their_owner_before_anything_is_sent() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 10, &[]), (1, 0, 10, &[])];
    let plan = plan_of(&owners, Dummies::NONE);
    let tables = [vec![1, 2, 1], vec![1, 2, 3]].map(|keys| OwnerTable {
        tags: tags(1, &keys),
        columns: vec![],
    });
    let ends = run(1, &plan, &tables);
    assert!(matches!(ends[&0].output, Err(Error::DuplicateKey)));
    assert_eq!(ends[&0].traffic.bytes_sent, 0);
    assert!(matches!(
        ends[&2].output,
        Err(Error::PeerGone {
            peer: Participant(0),
            ..
        })
    ));
    assert!(matches!(ends[&1].output, Err(Error::PeerGone { .. })));
}

#[test]
fn tables_that_differ_from_the_plan_are_refused() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 50, &[A64]), (1, 0, 50, &[])];
    let plan = plan_of(&owners, Dummies::new(1, 1, 20).unwrap());
    let mut link = network(5).remove(0);
    let mut refuse = |rows: usize, columns: Vec<ClearColumn>| {
        let keys: Vec<u64> = (0..rows as u64).collect();
        let table = OwnerTable {
            tags: tags(1, &keys),
            columns,
        };
        let step = Step::new("join");
        let result = align_input_owner(&mut link, &step, &plan, &COMPUTING, table, &secrets(1, 0));
        assert!(
            matches!(result, Err(Error::InvalidInput { .. })),
            "{result:?}"
        );
        assert_eq!(link.traffic().bytes_sent, 0);
    };
    refuse(50, vec![ClearColumn::Arith64(vec![0; 50])]);
    refuse(3, vec![]);
    refuse(3, vec![ClearColumn::Arith64(vec![0; 2])]);
    refuse(3, vec![ClearColumn::Arith128(vec![0; 3])]);
}

/// Runs only the neutral party (or owner A), with frames written by hand.
fn against(me: u8, frames: &[(u8, Step, Vec<u8>)], plan: &AlignPlan) -> Error {
    let mut links = network(5);
    for (from, step, payload) in frames {
        links[usize::from(*from)]
            .send(Participant(me), step, payload)
            .unwrap();
    }
    let others: Vec<MemoryLink> = links.split_off(usize::from(me) + 1);
    let link = links.pop().unwrap();
    let link = link.with_deadline(Duration::from_millis(100));
    let mut ctx = context(1, Box::new(link));
    let step = Step::new("join");
    let result = if me == NEUTRAL.0 {
        align_neutral(&mut ctx, &step, plan, &seed(1, "neutral"))
    } else {
        let table = OwnerTable {
            tags: vec![],
            columns: vec![],
        };
        align_owner(&mut ctx, &step, plan, table, &secrets(1, me))
    };
    drop(others);
    result.map(|_| ()).unwrap_err()
}

#[test]
fn garbage_is_named() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 2, &[]), (1, 0, 2, &[A64])];
    let plan = plan_of(&owners, Dummies::NONE);
    let bytes = plan::TAG_BYTES;
    let of = |owner: usize, name: &str| Step::new("join").at("owner", owner).at(name, 0);
    let tags = |same: bool| {
        let mut tags = vec![0; 2 * bytes];
        tags[0] = u8::from(!same);
        tags
    };
    // #0 sends one tag twice; its dummy bits are a plane of one word.
    let error = against(
        2,
        &[
            (0, of(0, "tags"), tags(true)),
            (0, of(0, "payload"), vec![0; 8]),
            (1, of(1, "tags"), tags(false)),
            (1, of(1, "payload"), vec![0; 16]),
        ],
        &plan,
    );
    assert!(matches!(
        error,
        Error::PeerMisbehaved {
            peer: Participant(0),
            what: Misbehaviour::Malformed(_),
            ..
        }
    ));
    let error = against(2, &[(0, of(0, "tags"), vec![0; 5])], &plan);
    assert!(matches!(
        error,
        Error::PeerMisbehaved {
            peer: Participant(0),
            what: Misbehaviour::Length { .. },
            ..
        }
    ));
    let error = against(
        2,
        &[
            (0, of(0, "tags"), tags(false)),
            (0, of(0, "payload"), vec![0; 8]),
            (1, of(1, "payload"), vec![0; 16]),
        ],
        &plan,
    );
    assert!(matches!(
        error,
        Error::PeerMisbehaved {
            peer: Participant(1),
            what: Misbehaviour::OutOfStep,
            ..
        }
    ));
    let error = against(2, &[], &plan);
    assert!(matches!(
        error,
        Error::PeerGone {
            peer: Participant(0),
            ..
        }
    ));
    // The neutral party repeats a position, or names a row that is not there.
    for positions in [[1_u32, 1], [0, 2]] {
        let payload = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
        let error = against(0, &[(2, of(1, "positions"), payload)], &plan);
        assert!(matches!(
            error,
            Error::PeerMisbehaved {
                peer: NEUTRAL,
                what: Misbehaviour::Malformed(_),
                ..
            }
        ));
    }
}

/// Clock ticks of 10 ms that this process has computed.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    [11, 12]
        .iter()
        .filter_map(|&i| fields.get(i)?.parse::<u64>().ok())
        .sum()
}

/// Figures of a join over TCP on loopback, not bars: `cargo test -p veilgate-mpc psi::tests::figures --
/// --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
#[allow(clippy::disallowed_methods)] // it measures
fn figures() {
    use crate::net::tcp::loopback_network;
    const ROWS: usize = 1 << 20;
    let dummies = Dummies::new(1, 2, 30).unwrap();
    let padded = AlignPlan::padded_rows(ROWS, 0, &dummies, 2);
    for (name, left, right) in [
        ("two 64-bit columns", vec![A64], vec![A64]),
        (
            "one 128-bit column, 5 bits",
            vec![A128],
            vec![ColumnKind::Bits { width: 5 }],
        ),
        ("two 128-bit columns", vec![A128], vec![A128]),
    ] {
        let owners: [(u8, u8, usize, &[ColumnKind]); 2] =
            [(0, 1, padded, &left), (1, 0, padded, &right)];
        let plan = plan_of(&owners, dummies);
        let mut stream = Stream::new(&[7; 16]);
        let keys: Vec<u64> = (0..ROWS as u64).collect();
        let start = ticks();
        let mut tables = BTreeMap::from([
            (0, table(1, &keys, &left, &mut stream)),
            (1, table(1, &keys, &right, &mut stream)),
        ]);
        let tagged = ticks();
        let links = loopback_network(3, Duration::from_secs(10), &Default::default()).unwrap();
        let clock = std::time::Instant::now();
        let sent: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = links
                .into_iter()
                .map(|link| {
                    let plan = &plan;
                    let table = tables.remove_entry(&link.me().0);
                    scope.spawn(move || {
                        let mut ctx = context(1, Box::new(link));
                        let step = Step::new("join");
                        match table {
                            None => align_neutral(&mut ctx, &step, plan, &seed(1, "neutral")),
                            Some((me, table)) => {
                                align_owner(&mut ctx, &step, plan, table, &secrets(1, me))
                            }
                        }
                        .unwrap();
                        let mut link = ctx.into_link();
                        link.digests();
                        link.traffic().bytes_sent
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        println!(
            "{{\"bench\":\"join-aligned\",\"payload\":\"{name}\",\"wall_s\":{:.3},\"cpu_s\":{:.2},\
             \"tables_cpu_s\":{:.2},\"bytes_per_input_row\":{:.1}}}",
            clock.elapsed().as_secs_f64(),
            (ticks() - tagged) as f64 / 100.0,
            (tagged - start) as f64 / 100.0,
            sent as f64 / (2 * ROWS) as f64,
        );
    }
}
