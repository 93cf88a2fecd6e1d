//! Joins through a neutral party.

use super::{Entry, Job, Kind, arith64, numbers};
use crate::harness::Params;
use std::collections::BTreeMap;
use veilgate_mpc::input::{ClearColumn, ColumnKind};
use veilgate_mpc::net::{Participant, Step};
use veilgate_mpc::prss::Seed;
use veilgate_mpc::psi::tag::Tagger;
use veilgate_mpc::psi::{
    AlignKind, AlignPlan, Dummies, GroupPlan, Groups, OwnerPlan, OwnerSecrets, OwnerTable,
    align_input_owner, align_neutral, align_owner, group_input_owner, group_neutral, group_owner,
};

/// The participant that matches tags; owners are #0, #1, #3, #4, ...
const NEUTRAL: Participant = Participant(2);

/// The computing parties.
const COMPUTING: [Participant; 3] = [Participant(0), Participant(1), Participant(2)];

/// Participants that own data, in plan order.
fn owners(params: &Params) -> Vec<u8> {
    (0..)
        .filter(|&p| p != NEUTRAL.0)
        .take(params.owners)
        .collect()
}

fn plan(params: &Params) -> Result<AlignPlan, String> {
    if !(2..=8).contains(&params.owners) {
        return Err(format!("--owners {}: 2 to 8", params.owners));
    }
    let dummies = Dummies::new(1, 2, 30).ok_or("no such noise")?;
    let padded_rows = AlignPlan::padded_rows(params.rows, 0, &dummies, params.owners);
    Ok(AlignPlan {
        owners: owners(params)
            .into_iter()
            .map(|me| OwnerPlan {
                participant: Participant(me),
                mask_holder: Participant(u8::from(me == 0)),
                padded_rows,
                columns: vec![ColumnKind::Arith64, ColumnKind::Arith64],
            })
            .collect(),
        neutral: NEUTRAL,
        dummies,
        kind: AlignKind::Inner,
    })
}

fn seed(params: &Params, name: &str) -> Seed {
    let mut stream = veilgate_mpc::testing::data(name.bytes().fold(params.seed, |seed, byte| {
        seed.wrapping_mul(257) + u64::from(byte)
    }));
    let mut seed = Seed([0; 32]);
    stream.fill(&mut seed.0);
    seed
}

fn secrets(params: &Params, me: u8) -> OwnerSecrets {
    OwnerSecrets {
        common: seed(params, "common"),
        private: seed(params, &format!("private {me}")),
        pairwise: owners(params)
            .into_iter()
            .filter(|&peer| peer != me)
            .map(|peer| {
                let pair = format!("pair {} {}", me.min(peer), me.max(peer));
                (Participant(peer), seed(params, &pair))
            })
            .collect(),
    }
}

/// An owner's keys: each owner begins a tenth of the rows later, so nine tenths match.
fn keys(params: &Params, owner: usize) -> impl Iterator<Item = u64> + use<> {
    let start = (params.rows / 10 * owner) as u64;
    start..start + params.rows as u64
}

/// An owner's two columns, by row.
fn payload(params: &Params, owner: usize) -> [Vec<u64>; 2] {
    let salt = 100 + 2 * owner as u64;
    [salt, salt + 1].map(|salt| numbers(params, salt, params.rows))
}

/// What an owner brings along. Tagging is the owner's work too, so it is measured.
fn table(params: &Params, owner: usize) -> impl FnOnce() -> OwnerTable + use<> {
    let keys: Vec<u64> = keys(params, owner).collect();
    let columns = payload(params, owner).map(ClearColumn::Arith64).to_vec();
    let tag_key = seed(params, "tag key").0;
    let rows = params.rows;
    move || OwnerTable {
        tags: Tagger::new(&tag_key, "id").tags(rows, |row, key| {
            key.column(&keys[row].to_le_bytes());
        }),
        columns,
    }
}

/// Which owner a participant is.
fn owner_index(params: &Params, me: u8) -> Result<usize, String> {
    let index = owners(params).iter().position(|&p| p == me);
    index.ok_or_else(|| "not an owner".to_owned())
}

fn prepare(params: &Params, me: usize) -> Result<Job, String> {
    let plan = plan(params)?;
    let me = u8::try_from(me).map_err(|error| error.to_string())?;
    let step = Step::new("bench");
    if me == NEUTRAL.0 {
        let private = seed(params, "neutral");
        return Ok(Job::Compute(Box::new(move |ctx| {
            align_neutral(ctx, &step, &plan, &private)
        })));
    }
    let table = table(params, owner_index(params, me)?);
    let secrets = secrets(params, me);
    if me < 3 {
        return Ok(Job::Compute(Box::new(move |ctx| {
            align_owner(ctx, &step, &plan, table(), &secrets)
        })));
    }
    Ok(Job::Alone(Box::new(move |link| {
        align_input_owner(link, &step, &plan, &COMPUTING, table(), &secrets)?;
        Ok(Vec::new())
    })))
}

/// The joined rows in the clear: all owners' columns by key, in the owners' order.
fn joined(params: &Params) -> BTreeMap<u64, Vec<u64>> {
    let mut rows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for owner in 0..params.owners {
        let [first, second] = payload(params, owner);
        for (key, (a, b)) in keys(params, owner).zip(first.into_iter().zip(second)) {
            let row = rows.entry(key).or_default();
            if row.len() == 2 * owner {
                row.extend([a, b]);
            }
        }
    }
    rows.retain(|_, row| row.len() == 2 * params.owners);
    rows
}

/// Groups of a grouped alignment.
const GROUPS: u64 = 1000;

/// The group of a key of the first owner's.
fn group_of(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15) % GROUPS
}

fn group_plan(params: &Params) -> Result<GroupPlan, String> {
    let mut align = plan(params)?;
    align.kind = AlignKind::Groups;
    Ok(GroupPlan {
        align,
        by: 0,
        padded_groups: GROUPS as usize,
        keys: vec![ColumnKind::Arith64],
    })
}

fn prepare_groups(params: &Params, me: usize) -> Result<Job, String> {
    let plan = group_plan(params)?;
    let me = u8::try_from(me).map_err(|error| error.to_string())?;
    let step = Step::new("bench");
    if me == NEUTRAL.0 {
        let private = seed(params, "neutral");
        return Ok(Job::Compute(Box::new(move |ctx| {
            group_neutral(ctx, &step, &plan, &private)
        })));
    }
    let owner = owner_index(params, me)?;
    let table = table(params, owner);
    let groups = (owner == plan.by).then(|| Groups {
        of_row: keys(params, owner)
            .map(|key| group_of(key) as u32)
            .collect(),
        keys: vec![ClearColumn::Arith64((0..GROUPS).collect())],
    });
    let secrets = secrets(params, me);
    if me < 3 {
        return Ok(Job::Compute(Box::new(move |ctx| {
            group_owner(ctx, &step, &plan, table(), groups, &secrets)
        })));
    }
    Ok(Job::Alone(Box::new(move |link| {
        group_input_owner(link, &step, &plan, &COMPUTING, table(), groups, &secrets)?;
        Ok(Vec::new())
    })))
}

pub(super) const JOIN_GROUPED: Entry = Entry {
    name: "join-grouped",
    about: "sums of two columns a side over 1,000 groups of what join-aligned joins, through a neutral party",
    key_bits: 64,
    sides: 2,
    kind: Kind::Owners,
    prepare: prepare_groups,
    check: |params, out| {
        let mut due: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (key, row) in joined(params) {
            let sums = due.entry(group_of(key)).or_insert(vec![0; row.len() + 1]);
            for (sum, value) in sums.iter_mut().zip(row.into_iter().chain([1])) {
                *sum = sum.wrapping_add(value);
            }
        }
        let columns: Vec<&[u64]> = out.columns.iter().map(arith64).collect::<Result<_, _>>()?;
        let got: BTreeMap<u64, Vec<u64>> = (0..out.valid.len())
            .filter(|&row| out.valid[row])
            .map(|row| {
                let cells = columns[1..].iter().map(|column| column[row]).collect();
                (columns[0][row], cells)
            })
            .collect();
        match got == due {
            true => Ok(()),
            false => Err("sums differ".to_owned()),
        }
    },
};

pub(super) const JOIN_ALIGNED: Entry = Entry {
    name: "join-aligned",
    about: "join of --owners sides through a neutral party, two 64-bit columns a side, nine tenths match",
    key_bits: 64,
    sides: 2,
    kind: Kind::Owners,
    prepare,
    check: |params, out| {
        // The output's order is the neutral party's: compare as sets of rows.
        let mut due: Vec<Vec<u64>> = joined(params).into_values().collect();
        due.sort_unstable();
        let columns: Vec<&[u64]> = out
            .columns
            .iter()
            .take(2 * params.owners)
            .map(arith64)
            .collect::<Result<_, _>>()?;
        let mut got: Vec<Vec<u64>> = (0..out.valid.len())
            .filter(|&row| out.valid[row])
            .map(|row| columns.iter().map(|column| column[row]).collect())
            .collect();
        got.sort_unstable();
        super::same(&got, &due)
    },
};
