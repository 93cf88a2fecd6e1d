//! Looking shared keys up in a public table.
//!
//! For a small table: one equality against each public key (`width - 1` bits a row and entry, all
//! entries at once); what is found is the XOR of the flags times public words, which is local. For a
//! larger one: the table becomes a sharing and joins obliviously. Leakage: none, the table is public.
//! Adversary: semi-honest.

use super::join::{Kind, Side, join};
use crate::bits::row_words;
use crate::circuit::equal_public;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::BitColumn;
use crate::table::{Column, SharedTable};

/// A public table: row-major keys and payload, lowest word first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicTable {
    /// Keys of the looked-up column's width, each once.
    pub keys: Vec<Vec<u64>>,
    /// As many rows of `width` bits.
    pub payload: Vec<Vec<u64>>,
    /// Bits of a payload row, at least 1.
    pub width: usize,
}

/// Entries up to which equalities cost less than a sort: a sort makes about 21 comparisons a row, of a
/// key and a row number.
const DIRECT: usize = 32;

/// Equalities at a time.
const BATCH: usize = 1 << 20;

/// The payload for each row's key, zero where there is none, and whether there is one.
///
/// # Errors
/// `InvalidInput` for a public table with a key twice, or with rows of other lengths; those of the link.
pub fn look_up(
    ctx: &mut Context,
    step: &Step,
    key: &BitColumn,
    table: &PublicTable,
) -> Result<(BitColumn, BitColumn)> {
    check(key, table)?;
    if table.keys.len() <= DIRECT {
        directly(ctx, step, key, table)
    } else {
        by_join(ctx, step, key, table)
    }
}

fn check(key: &BitColumn, table: &PublicTable) -> Result<()> {
    let (key_words, words) = (row_words(key.width()), row_words(table.width.max(1)));
    let mut sorted: Vec<&Vec<u64>> = table.keys.iter().collect();
    sorted.sort_unstable();
    let twice = sorted.windows(2).any(|pair| pair[0] == pair[1]);
    let shaped = table.width > 0
        && table.keys.len() == table.payload.len()
        && table.keys.iter().all(|k| k.len() == key_words)
        && table.payload.iter().all(|p| p.len() == words);
    if twice || !shaped {
        return Err(Error::InvalidInput {
            operator: "look_up",
            what: "a public table with a key twice, or of rows of other lengths".into(),
        });
    }
    Ok(())
}

fn directly(
    ctx: &mut Context,
    step: &Step,
    key: &BitColumn,
    table: &PublicTable,
) -> Result<(BitColumn, BitColumn)> {
    let rows = key.rows();
    let mut payload = BitColumn::zeros(table.width, rows);
    let mut found = BitColumn::zeros(1, rows);
    let at_once = (BATCH / rows.max(1)).max(1);
    for (batch, entries) in table.keys.chunks(at_once).enumerate() {
        // All entries' differences one below the other, so that they take their rounds together.
        let role = ctx.role();
        let mut differences = BitColumn::zeros(key.width(), 0);
        for entry in entries {
            differences = differences.followed_by(&key.clone().xor_public(role, entry));
        }
        let none = vec![0; row_words(key.width())];
        let same = equal_public(ctx, &step.at("batch", batch), &differences, &none)?;
        for (i, words) in table.payload[batch * at_once..]
            .iter()
            .take(entries.len())
            .enumerate()
        {
            let same = same.slice(i * rows, rows);
            payload = payload.xor(&same.times_public(table.width, words));
            found = found.xor(&same);
        }
    }
    Ok((payload, found))
}

fn by_join(
    ctx: &mut Context,
    step: &Step,
    key: &BitColumn,
    table: &PublicTable,
) -> Result<(BitColumn, BitColumn)> {
    let role = ctx.role();
    let rows = table.keys.len();
    let public = |width: usize, words: &[Vec<u64>]| {
        BitColumn::public(role, width, rows, &words.concat()).map(Column::Bits)
    };
    let right = SharedTable {
        columns: vec![
            public(key.width(), &table.keys)?,
            public(table.width, &table.payload)?,
        ],
        valid: BitColumn::ones(role, 1, rows),
    };
    let left = SharedTable {
        columns: vec![Column::Bits(key.clone())],
        valid: BitColumn::ones(role, 1, key.rows()),
    };
    let side = |table| Side {
        table,
        keys: &[0],
        nulls: &[],
        sorted: false,
    };
    let out = join(ctx, step, Kind::Left, side(&left), side(&right), &[1], None)?;
    let (payload, found) = (out.bits("look_up", 1)?, out.bits("look_up", 2)?);
    Ok((payload.clone(), found.clone()))
}
