//! Owners that lie about tags: rows that they do not claim to have never count.

use super::super::align::after_hand_over;
use super::super::owner::Prepared;
use super::*;
use std::collections::HashMap;

/// Runs an alignment in which owner `liar` gives its last padding rows the tags `stolen`.
fn run_with_liar(
    number: u64,
    plan: &AlignPlan,
    tables: &[OwnerTable],
    liar: usize,
    stolen: &[u128],
) -> BTreeMap<u8, End> {
    let step = Step::new("join");
    run_parts(network(5), number, |part, me| {
        let index = plan.index_of(me).ok();
        let Some(index) = index else {
            return match part {
                Part::Computing(ctx) => {
                    align_neutral(ctx, &step, plan, &seed(number, "neutral")).map(Some)
                }
                Part::Alone(_) => Ok(None),
            };
        };
        let secrets = secrets(number, me.0);
        let mut prepared = Prepared::new(&step, plan, index, tables[index].clone(), &secrets)?;
        if index == liar {
            let padding = prepared.tags.len() - stolen.len();
            prepared.tags[padding..].copy_from_slice(stolen);
        }
        match part {
            Part::Computing(ctx) => {
                prepared.send(ctx.link(), &step, plan, &secrets, None)?;
                after_hand_over(ctx, &step, plan, &secrets).map(Some)
            }
            Part::Alone(link) => prepared
                .send(link, &step, plan, &secrets, None)
                .map(|()| None),
        }
    })
}

/// The valid rows in order of their text.
fn valid_rows(plan: &AlignPlan, ends: &BTreeMap<u8, End>) -> Vec<String> {
    let (columns, valid) = open(plan.rows(), ends);
    let rows = (0..plan.rows()).filter(|&row| valid[row]);
    let mut rows: Vec<String> = rows.map(|row| shown(&rows_of(&columns, row))).collect();
    rows.sort();
    rows
}

/// How many tags the neutral party got from all owners.
fn matches_seen(plan: &AlignPlan, ends: &BTreeMap<u8, End>) -> usize {
    let mut counts: HashMap<Vec<u8>, usize> = HashMap::new();
    let view = &ends[&NEUTRAL.0].view;
    for frame in view.iter().filter(|f| f.step.path().contains("tags")) {
        for tag in frame.payload.chunks(plan::TAG_BYTES) {
            *counts.entry(tag.to_vec()).or_default() += 1;
        }
    }
    let owners = plan.owners.len();
    counts.values().filter(|&&count| count == owners).count()
}

#[test]
fn padding_that_carries_other_owners_tags_is_never_valid() {
    let mut number = 3000;
    for kind in [
        AlignKind::Inner,
        AlignKind::Left,
        AlignKind::Semi,
        AlignKind::Anti,
    ] {
        for owners in [vec![0, 1], vec![0, 1, 3], vec![3, 1, 0]] {
            if kind == AlignKind::Left && owners.len() > 2 {
                continue;
            }
            for liar in 0..owners.len() {
                for dummies in [Dummies::NONE, Dummies::new(2, 1, 20).unwrap()] {
                    number += 1;
                    // All have keys 10..20; 100..115 are those of all but the liar.
                    let common: Vec<u64> = (10..20).collect();
                    let lacking: Vec<u64> = (100..115).collect();
                    let padded = 60 + dummies.headroom(owners.len());
                    let list: Vec<(u8, u8, usize, &[ColumnKind])> = owners
                        .iter()
                        .enumerate()
                        .map(|(index, &who)| {
                            let payload: &[ColumnKind] = match (index, kind) {
                                (0, _) | (_, AlignKind::Inner | AlignKind::Left) => &[A64, FLAG],
                                _ => &[],
                            };
                            (who, u8::from(who == 0), padded, payload)
                        })
                        .collect();
                    let mut plan = plan_of(&list, dummies);
                    plan.kind = kind;
                    let mut stream = Stream::new(&[5; 16]);
                    let tables: Vec<OwnerTable> = (0..owners.len())
                        .map(|index| {
                            let mut keys = common.clone();
                            if index != liar {
                                keys.extend(&lacking);
                            }
                            table(number, &keys, &plan.owners[index].columns, &mut stream)
                        })
                        .collect();
                    let honest = run(number, &plan, &tables);
                    let stolen = tags(number, &lacking);
                    let lied = run_with_liar(number, &plan, &tables, liar, &stolen);
                    let seen = matches_seen(&plan, &honest) + lacking.len();
                    assert_eq!(matches_seen(&plan, &lied), seen);
                    let due = valid_rows(&plan, &honest);
                    let count = match (kind, liar) {
                        (AlignKind::Inner | AlignKind::Semi, _) | (AlignKind::Left, 0) => 10,
                        (AlignKind::Left, _) => 25,
                        (_, 0) => 0,
                        _ => 15,
                    };
                    assert_eq!(due.len(), count, "run {number}: {kind:?}");
                    assert_eq!(
                        valid_rows(&plan, &lied),
                        due,
                        "run {number}: {kind:?}, {liar}"
                    );
                }
            }
        }
    }
    assert!(number >= 3040);
}
