//! One component of a shared column, or a mask: the group elements that cross the wire.
//!
//! Bits are planes here (see [`crate::bits`]), as in [`BitColumn`]; bits past the last row are random
//! like all others. Knows nothing of parties.

use super::column::ColumnKind;
use crate::bits::plane_words;
use crate::error::Result;
use crate::net::{Link, Participant, Step};
use crate::prss::Stream;
use crate::ring::{Additive, Group, Word, Xor};
use crate::share::{Arith, BitColumn};
use crate::table::Column;
use zerocopy::IntoBytes;

/// Bytes of one frame: few enough that making, sending and adding meet in a cache.
const FRAME: usize = 1 << 17;

/// A vector over the group of its kind.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Component {
    Bits {
        width: usize,
        rows: usize,
        planes: Vec<u64>,
    },
    Arith64(Vec<u64>),
    Arith128(Vec<u128>),
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Component({:?})", self.kind())
    }
}

impl Component {
    pub(crate) fn kind(&self) -> ColumnKind {
        match self {
            Self::Bits { width, .. } => ColumnKind::Bits { width: *width },
            Self::Arith64(_) => ColumnKind::Arith64,
            Self::Arith128(_) => ColumnKind::Arith128,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Bits { rows, .. } => *rows,
            Self::Arith64(words) => words.len(),
            Self::Arith128(words) => words.len(),
        }
    }

    /// Zero in every row.
    pub(crate) fn zeros(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Bits { width } => Self::Bits {
                width,
                rows,
                planes: vec![0; width * plane_words(rows)],
            },
            ColumnKind::Arith64 => Self::Arith64(vec![0; rows]),
            ColumnKind::Arith128 => Self::Arith128(vec![0; rows]),
        }
    }

    /// Uniformly random, the next of `stream`.
    pub(crate) fn random(kind: ColumnKind, rows: usize, stream: &mut Stream) -> Self {
        let mut all = Self::zeros(kind, rows);
        match &mut all {
            Self::Bits { planes, .. } => stream.fill(planes),
            Self::Arith64(words) => stream.fill(words),
            Self::Arith128(words) => stream.fill(words),
        }
        all
    }

    /// Adds `other`, of the same shape, in the group.
    #[cfg(test)]
    pub(crate) fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Bits { planes: a, .. }, Self::Bits { planes: b, .. }) => {
                combine::<Xor<u64>>(a, b, Xor::<u64>::add);
            }
            (Self::Arith64(a), Self::Arith64(b)) => combine::<Additive<u64>>(a, b, Additive::add),
            (Self::Arith128(a), Self::Arith128(b)) => {
                combine::<Additive<u128>>(a, b, Additive::add);
            }
            _ => debug_assert!(false, "components of different kinds"),
        }
    }

    /// Subtracts `other`, of the same shape, in the group.
    pub(crate) fn sub(&mut self, other: &Self) {
        match (self, other) {
            (Self::Bits { planes: a, .. }, Self::Bits { planes: b, .. }) => {
                combine::<Xor<u64>>(a, b, Xor::<u64>::sub);
            }
            (Self::Arith64(a), Self::Arith64(b)) => combine::<Additive<u64>>(a, b, Additive::sub),
            (Self::Arith128(a), Self::Arith128(b)) => {
                combine::<Additive<u128>>(a, b, Additive::sub);
            }
            _ => debug_assert!(false, "components of different kinds"),
        }
    }

    /// The bytes on the wire: [`ColumnKind::wire_bytes`] of them.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bits { planes, .. } => planes.as_bytes(),
            Self::Arith64(words) => words.as_bytes(),
            Self::Arith128(words) => words.as_bytes(),
        }
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        match self {
            Self::Bits { planes, .. } => planes.as_mut_bytes(),
            Self::Arith64(words) => words.as_mut_bytes(),
            Self::Arith128(words) => words.as_mut_bytes(),
        }
    }

    /// Sends all of it, in frames.
    pub(crate) fn send(&self, link: &mut dyn Link, to: Participant, step: &Step) -> Result<()> {
        self.as_bytes()
            .chunks(FRAME)
            .try_for_each(|frame| link.send(to, step, frame))
    }

    /// Receives what [`Component::send`] sent. Any bytes of the right length are a component.
    pub(crate) fn receive(
        kind: ColumnKind,
        rows: usize,
        link: &mut dyn Link,
        from: Participant,
        step: &Step,
    ) -> Result<Self> {
        let mut all = Self::zeros(kind, rows);
        all.as_mut_bytes()
            .chunks_mut(FRAME)
            .try_for_each(|frame| link.recv_into(from, step, frame))?;
        Ok(all)
    }

    /// Adds what [`Component::send`] sent.
    pub(crate) fn add_received(
        &mut self,
        link: &mut dyn Link,
        from: Participant,
        step: &Step,
    ) -> Result<()> {
        match self {
            Self::Bits { planes, .. } => add_frames::<Xor<u64>>(planes, link, from, step),
            Self::Arith64(words) => add_frames::<Additive<u64>>(words, link, from, step),
            Self::Arith128(words) => add_frames::<Additive<u128>>(words, link, from, step),
        }
    }

    /// A party's share of a column from its two components, of one shape.
    pub(crate) fn into_column(self, second: Self) -> Result<Column> {
        Ok(match (self, second) {
            (
                Self::Bits {
                    width,
                    rows,
                    planes,
                },
                Self::Bits { planes: b, .. },
            ) => Column::Bits(BitColumn::from_planes(width, rows, planes, b)?),
            (Self::Arith64(a), Self::Arith64(b)) => Column::Arith64(Arith::from_components(a, b)?),
            (Self::Arith128(a), Self::Arith128(b)) => {
                Column::Arith128(Arith::from_components(a, b)?)
            }
            _ => {
                return Err(crate::Error::InvalidInput {
                    operator: "share",
                    what: "components of different kinds".to_owned(),
                });
            }
        })
    }
}

fn combine<G: Group>(
    a: &mut [G::Element],
    b: &[G::Element],
    operation: impl Fn(G::Element, G::Element) -> G::Element,
) {
    debug_assert_eq!(a.len(), b.len());
    for (a, &b) in a.iter_mut().zip(b) {
        *a = operation(*a, b);
    }
}

fn add_frames<G: Group>(
    words: &mut [G::Element],
    link: &mut dyn Link,
    from: Participant,
    step: &Step,
) -> Result<()> {
    let frame = FRAME / G::Element::BYTES;
    let mut theirs = vec![G::Element::default(); frame.min(words.len())];
    for mine in words.chunks_mut(frame) {
        let theirs = &mut theirs[..mine.len()];
        link.recv_into(from, step, theirs.as_mut_bytes())?;
        combine::<G>(mine, theirs, G::add);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::memory::network;

    #[test]
    fn components_cross_the_wire_and_masks_cancel() {
        let mut stream = Stream::new(&[3; 16]);
        let step = Step::new("c");
        for kind in [
            ColumnKind::Bits { width: 1 },
            ColumnKind::Bits { width: 200 },
            ColumnKind::Arith64,
            ColumnKind::Arith128,
        ] {
            for rows in [0, 1, 63, 64, 65, 40_000] {
                let value = Component::random(kind, rows, &mut stream);
                let mask = Component::random(kind, rows, &mut stream);
                let mut masked = value.clone();
                masked.sub(&mask);
                let mut links = network(2);
                for _ in 0..2 {
                    masked.send(&mut links[0], Participant(1), &step).unwrap();
                }
                let sent = links[0].traffic().bytes_sent;
                assert_eq!(sent, 2 * kind.wire_bytes(rows) as u64);
                let from = Participant(0);
                let mut got = Component::receive(kind, rows, &mut links[1], from, &step).unwrap();
                got.add(&mask);
                assert!(got == value);
                let mut sum = mask.clone();
                sum.add_received(&mut links[1], from, &step).unwrap();
                assert!(sum == value);
            }
        }
        let shown = format!("{:?}", Component::Arith64(vec![424_242]));
        assert!(!shown.contains("424242"));
    }
}
