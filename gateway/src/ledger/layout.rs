//! The C2SP tlog-tiles layout (<https://c2sp.org/tlog-tiles>): where tiles and bundles of entries
//! lie, and how entries are bundled.
//!
//! `tile/L/N` holds 256 hashes of level L; `tile/entries/N` the 256 entries below, each behind its
//! length in two bytes, big-endian; a partial one has its width in the path. N is written in groups
//! of three digits, all but the last with an `x`.

use super::corrupt;
use std::collections::BTreeSet;
use tlog_tiles::Tile;
use veilgate_federated::error::{Code, Error, Result};

/// Levels of the tree in one tile.
pub(super) const HEIGHT: u8 = 8;
/// Hashes in a full tile, entries in a full bundle.
pub(super) const TILE: u64 = 1 << HEIGHT;

/// The signed tree head.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The public key, as a C2SP verifier key.
pub(super) const KEY: &str = "vkey";
/// Openings of commitments; not part of the log.
pub(super) const OPENINGS: &str = "private/openings.jsonl";
/// The folder of everything that is not part of the log.
pub(super) const PRIVATE: &str = "private";
/// The writer's lock.
pub(super) const LOCK: &str = "private/lock";

/// The path of a tile of hashes.
pub(super) fn tile_path(tile: &Tile) -> String {
    // The crate writes the height into the path, as Go's checksum database does; C2SP does not.
    tile.path().replacen("tile/8/", "tile/", 1)
}

/// The path of the tile at this level with this number and width (1 to 256).
pub(super) fn hash_tile_path(level: u8, number: u64, width: u64) -> String {
    tile_path(&Tile::new(HEIGHT, level, number, narrow(width), false))
}

/// The path of a bundle of entries with this number and width (1 to 256).
pub(super) fn bundle_path(number: u64, width: u64) -> String {
    Tile::new(HEIGHT, 0, number, narrow(width), true)
        .path()
        .replacen("tile/8/data/", "tile/entries/", 1)
}

/// A width is at most 256.
fn narrow(width: u64) -> u32 {
    u32::try_from(width.clamp(1, TILE)).unwrap_or(1)
}

/// Appends an entry to a bundle.
///
/// # Errors
/// `Internal` for an entry of more than 65,535 bytes.
pub(super) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<()> {
    let length = u16::try_from(entry.len())
        .map_err(|_| Error::new(Code::Internal, "a ledger entry is too long"))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, which must be exactly `width`.
///
/// # Errors
/// `LedgerCorrupt` otherwise.
pub(super) fn split_bundle(bundle: &[u8], width: u64) -> Result<Vec<&[u8]>> {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, tail)) = tail.split_at_checked(length) else {
            break;
        };
        entries.push(entry);
        rest = tail;
    }
    if rest.is_empty() && entries.len() as u64 == width {
        Ok(entries)
    } else {
        Err(corrupt(format!(
            "a bundle of entries is not {width} entries long: altered or torn"
        )))
    }
}

/// Every file of the log with `size` leaves.
pub(super) fn files(size: u64) -> BTreeSet<String> {
    let mut files = BTreeSet::from([CHECKPOINT.to_owned(), KEY.to_owned()]);
    let mut level = 0;
    let mut count = size;
    while count > 0 {
        for number in 0..count.div_ceil(TILE) {
            let width = (count - number * TILE).min(TILE);
            files.insert(hash_tile_path(level, number, width));
            if level == 0 {
                files.insert(bundle_path(number, width));
            }
        }
        count /= TILE;
        level += 1;
    }
    files
}

/// The partial tiles and bundle on the right edge of a tree of this size.
pub(super) fn partial_files(size: u64) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut level = 0;
    let mut count = size;
    while count > 0 {
        let width = count % TILE;
        if width > 0 {
            files.insert(hash_tile_path(level, count / TILE, width));
            if level == 0 {
                files.insert(bundle_path(count / TILE, width));
            }
        }
        count /= TILE;
        level += 1;
    }
    files
}
