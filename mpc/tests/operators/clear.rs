//! Random clear tables and how to read opened ones.

use veilgate_mpc::bits::row_words;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::LinkProfile;
use veilgate_mpc::prss::Stream;
use veilgate_mpc::release::ClearTable;

/// Sizes that break things.
pub(crate) const SIZES: [usize; 10] = [0, 1, 2, 3, 31, 63, 64, 65, 200, 257];

/// A link on which rounds cost much, so that protocols take their variants of few rounds.
pub(crate) const FAR: LinkProfile = LinkProfile {
    round_trip: std::time::Duration::from_millis(20),
    bytes_per_second: 1_000_000_000,
};

/// A cell: bits as words, numbers as two words.
pub(crate) type Cell = Vec<u64>;

pub(crate) fn number(stream: &mut Stream) -> u64 {
    stream.words::<u64>(1)[0]
}

/// Row-major words of `width` bits; values below `distinct` where that is not 0.
pub(crate) fn bits(stream: &mut Stream, width: usize, rows: usize, distinct: u64) -> ClearColumn {
    let stride = row_words(width);
    let mut words: Vec<u64> = stream.words(rows * stride);
    for row in words.chunks_exact_mut(stride) {
        if distinct > 0 {
            // The same value at both ends of the width, so that high bits matter.
            let value = row[0] % distinct;
            row.fill(0);
            row[0] = value;
            row[stride - 1] |= value << 3;
        }
        if !width.is_multiple_of(64) {
            row[stride - 1] &= (1 << (width % 64)) - 1;
        }
    }
    ClearColumn::Bits { width, words }
}

pub(crate) fn flags(stream: &mut Stream, rows: usize, of_16: u64) -> Vec<bool> {
    (0..rows).map(|_| number(stream) % 16 < of_16).collect()
}

pub(crate) fn flag_column(flags: &[bool]) -> ClearColumn {
    ClearColumn::Bits {
        width: 1,
        words: flags.iter().map(|&f| u64::from(f)).collect(),
    }
}

pub(crate) fn cell(column: &ClearColumn, row: usize) -> Cell {
    match column {
        ClearColumn::Bits { width, words } => {
            let stride = row_words(*width);
            words[row * stride..(row + 1) * stride].to_vec()
        }
        ClearColumn::Arith64(v) => vec![v[row]],
        ClearColumn::Arith128(v) => vec![v[row] as u64, (v[row] >> 64) as u64],
    }
}

/// The valid rows, in order.
pub(crate) fn rows(table: &ClearTable) -> Vec<Vec<Cell>> {
    (0..table.valid.len())
        .filter(|&r| table.valid[r])
        .map(|r| table.columns.iter().map(|c| cell(c, r)).collect())
        .collect()
}

/// The order of cells as unsigned numbers.
pub(crate) fn order(a: &Cell, b: &Cell) -> std::cmp::Ordering {
    a.iter().rev().cmp(b.iter().rev())
}
