//! Running aligned joins in one process, and opening what comes out.

mod faults;
mod figures;
mod grouped;
mod join;
mod liars;
mod views;

use super::align::{align_input_owner, align_neutral, align_owner};
use super::grouped::{GroupPlan, Groups, group_input_owner, group_neutral, group_owner};
use super::plan::{AlignKind, AlignPlan, OwnerPlan, OwnerSecrets, OwnerTable};
use super::tag::Tagger;
use super::{Dummies, plan};
use crate::context::Context;
use crate::error::Result;
use crate::input::{ClearColumn, ColumnKind, Component};
use crate::net::memory::{MemoryLink, network};
use crate::net::recording::{Received, Recording, View};
use crate::net::{Link, Participant, Step, Traffic};
use crate::prss::{Prss, Seed, Stream};
use crate::share::Role;
use crate::table::{Column, SharedTable};
use std::collections::BTreeMap;

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
    run_parts(links, run, |part, me| {
        let table = plan.index_of(me).ok().map(|index| tables[index].clone());
        match (part, table) {
            (Part::Computing(ctx), Some(table)) => {
                align_owner(ctx, &step, plan, table, &secrets(run, me.0)).map(Some)
            }
            (Part::Computing(ctx), None) => {
                align_neutral(ctx, &step, plan, &seed(run, "neutral")).map(Some)
            }
            (Part::Alone(link), Some(table)) => {
                let secrets = secrets(run, me.0);
                align_input_owner(link, &step, plan, &COMPUTING, table, &secrets).map(|()| None)
            }
            (Part::Alone(_), None) => Ok(None),
        }
    })
}

/// Runs one grouped alignment.
fn run_groups(
    links: Vec<MemoryLink>,
    run: u64,
    plan: &GroupPlan,
    tables: &[OwnerTable],
    groups: &Groups,
) -> BTreeMap<u8, End> {
    let step = Step::new("join");
    run_parts(links, run, |part, me| {
        let index = plan.align.index_of(me).ok();
        let table = index.map(|index| tables[index].clone());
        let groups = (index == Some(plan.by)).then(|| groups.clone());
        match (part, table) {
            (Part::Computing(ctx), Some(table)) => {
                let secrets = secrets(run, me.0);
                group_owner(ctx, &step, plan, table, groups, &secrets).map(Some)
            }
            (Part::Computing(ctx), None) => {
                group_neutral(ctx, &step, plan, &seed(run, "neutral")).map(Some)
            }
            (Part::Alone(link), Some(table)) => {
                let secrets = secrets(run, me.0);
                group_input_owner(link, &step, plan, &COMPUTING, table, groups, &secrets)
                    .map(|()| None)
            }
            (Part::Alone(_), None) => Ok(None),
        }
    })
}

/// What a participant works with.
enum Part<'p> {
    Computing(&'p mut Context),
    Alone(&'p mut dyn Link),
}

/// Runs every participant in a thread, its link recorded.
fn run_parts(
    links: Vec<MemoryLink>,
    run: u64,
    protocol: impl Fn(Part<'_>, Participant) -> Result<Option<SharedTable>> + Sync,
) -> BTreeMap<u8, End> {
    let protocol = &protocol;
    std::thread::scope(|scope| {
        let threads: Vec<_> = links
            .into_iter()
            .map(|link| {
                scope.spawn(move || {
                    let view = View::default();
                    let me = link.me();
                    let mut link: Box<dyn Link> = Box::new(Recording::new(link, &view));
                    let output = if COMPUTING.contains(&me) {
                        let mut ctx = context(run, link);
                        let output = protocol(Part::Computing(&mut ctx), me);
                        link = ctx.into_link();
                        output
                    } else {
                        protocol(Part::Alone(&mut *link), me)
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

/// Opens an output of `rows` rows: (columns, validity per row).
fn open(rows: usize, ends: &BTreeMap<u8, End>) -> (Vec<ClearColumn>, Vec<bool>) {
    for (who, end) in ends {
        assert!(end.output.is_ok(), "#{who}: {:?}", end.output);
    }
    let tables: Vec<&SharedTable> = COMPUTING
        .iter()
        .map(|party| ends[&party.0].output.as_ref().unwrap().as_ref().unwrap())
        .collect();
    let count = tables[0].columns.len();
    let columns = (0..count)
        .map(|index| {
            let parties: Vec<&Column> = tables.iter().map(|table| &table.columns[index]).collect();
            reconstruct(&parties)
        })
        .collect();
    let valid: Vec<Column> = tables
        .iter()
        .map(|table| {
            assert_eq!(table.rows(), rows);
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
        kind: AlignKind::Inner,
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
        // One AND an owner, at three parties.
        bytes += 3 * FLAG.wire_bytes(rows);
    }
    // The match bit.
    bytes += FLAG.wire_bytes(rows);
    bytes as u64
}

const BITS: ColumnKind = ColumnKind::Bits { width: 70 };
const FLAG: ColumnKind = ColumnKind::Bits { width: 1 };
const A64: ColumnKind = ColumnKind::Arith64;
const A128: ColumnKind = ColumnKind::Arith128;

/// The content of columns; their `Debug` does not show it.
fn shown(columns: &[ClearColumn]) -> String {
    let words = columns.iter().map(|column| match column {
        ClearColumn::Bits { words, .. } => format!("{words:?}"),
        ClearColumn::Arith64(words) => format!("{words:?}"),
        ClearColumn::Arith128(words) => format!("{words:?}"),
    });
    words.collect::<Vec<_>>().join(" ")
}
