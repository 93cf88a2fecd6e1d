//! How the neutral party pairs rows: matches and fillers, in random order, always P of them.

use super::matching::{Duplicate, TagHash, match_tags};
use super::plan::chunks;
use crate::bits::plane_words;
use crate::error::Misbehaviour;
use crate::input::Component;
use crate::net::{Link, Participant, Step};
use crate::prss::Stream;
use zerocopy::IntoBytes;

/// P output rows: of every owner the position in its order, and whether all owners' rows carry one
/// tag.
pub(super) struct Pairing {
    /// `positions[owner][row]`, distinct per owner.
    pub(super) positions: Vec<Vec<u32>>,
    /// One bit a row.
    pub(super) matched: Component,
}

/// Pairs the owners' rows into `rows` rows, of which no owner has fewer.
///
/// Every owner's unmatched places are filled with a *uniformly random* set of its other rows: given
/// that the owner's order is uniformly random, positions then are a uniformly random injection
/// whatever the matches are.
pub(super) fn pair(
    tags: &[Vec<u128>],
    rows: usize,
    random: &mut Stream,
) -> Result<Pairing, Duplicate> {
    let mut key = [0; 4];
    random.fill(&mut key);
    let matches = match_tags(tags, TagHash::new(key))?;
    let count = matches.rows.first().map_or(0, Vec::len);
    let order = random.permutation(rows);
    let positions = matches
        .rows
        .into_iter()
        .zip(tags)
        .map(|(matched, tags)| {
            let mut list = matched;
            fill(&mut list, tags.len(), rows, random);
            order.iter().map(|&from| list[from as usize]).collect()
        })
        .collect();
    let mut planes = vec![0; plane_words(rows)];
    for (row, &from) in order.iter().enumerate() {
        planes[row / 64] |= u64::from((from as usize) < count) << (row % 64);
    }
    Ok(Pairing {
        positions,
        matched: Component::Bits {
            width: 1,
            rows,
            planes,
        },
    })
}

/// Extends `list`, distinct positions below `all`, to `rows` distinct positions at random.
fn fill(list: &mut Vec<u32>, all: usize, rows: usize, random: &mut Stream) {
    let mut used = vec![false; all];
    for &position in list.iter() {
        used[position as usize] = true;
    }
    let unused: Vec<u32> = (0..u32::MAX)
        .zip(&used)
        .filter_map(|(position, &used)| (!used).then_some(position))
        .collect();
    let wanted = rows - list.len();
    if wanted == unused.len() {
        // All of them: which is no choice, and the output order is random anyway.
        list.extend(unused);
    } else {
        let choice = random.permutation(unused.len());
        list.extend(choice[..wanted].iter().map(|&at| unused[at as usize]));
    }
}

/// Sends positions to a mask holder.
pub(super) fn send_positions(
    link: &mut dyn Link,
    to: Participant,
    step: &Step,
    positions: &[u32],
) -> crate::Result<()> {
    for (chunk, range) in chunks(positions.len()).enumerate() {
        link.send(
            to,
            &step.at("positions", chunk),
            positions[range].as_bytes(),
        )?;
    }
    Ok(())
}

/// Receives `rows` distinct positions below `all`.
pub(super) fn receive_positions(
    link: &mut dyn Link,
    from: Participant,
    step: &Step,
    rows: usize,
    all: usize,
) -> crate::Result<Vec<u32>> {
    let mut positions = vec![0; rows];
    for (chunk, range) in chunks(rows).enumerate() {
        let target = positions[range].as_mut_bytes();
        link.recv_into(from, &step.at("positions", chunk), target)?;
    }
    let mut seen = vec![false; all];
    let distinct = positions.iter().all(|&position| {
        seen.get_mut(position as usize)
            .is_some_and(|seen| !std::mem::replace(seen, true))
    });
    if !distinct {
        return Err(crate::Error::PeerMisbehaved {
            peer: from,
            step: step.clone(),
            what: Misbehaviour::Malformed("positions that are not distinct rows"),
        });
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn pairs_are_matches_and_distinct_fillers() {
        let mut random = Stream::new(&[6; 16]);
        let tags = vec![
            (0..100).collect::<Vec<u128>>(),
            (50..200).collect(),
            (40..140).rev().collect(),
        ];
        let pairing = pair(&tags, 100, &mut random).unwrap();
        let Component::Bits { planes, .. } = &pairing.matched else {
            unreachable!()
        };
        let ones: u32 = planes.iter().map(|word| word.count_ones()).sum();
        assert_eq!(ones, 50);
        for row in 0..100 {
            let matched = planes[row / 64] >> (row % 64) & 1;
            let at = |owner: usize| tags[owner][pairing.positions[owner][row] as usize];
            let equal = at(0) == at(1) && at(1) == at(2);
            assert_eq!(equal, matched == 1);
        }
        for list in &pairing.positions {
            let mut list = list.clone();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), 100);
        }
    }

    #[test]
    fn positions_are_uniform_whatever_the_matches_are() {
        // The owner of three rows permutes them at random; two output rows are paired. All six
        // injections are equally likely with no, one or two matches.
        for matches in 0..=2_u128 {
            let mut random = Stream::new(&[9; 16]);
            let mut counts: HashMap<Vec<u32>, u32> = HashMap::new();
            for _ in 0..6000 {
                let order = random.permutation(3);
                let mine: Vec<u128> = order.iter().map(|&i| 10 + u128::from(i)).collect();
                let theirs: Vec<u128> = (0..2)
                    .map(|i| if i < matches { 10 + i } else { 90 + i })
                    .collect();
                let pairing = pair(&[mine, theirs], 2, &mut random).unwrap();
                *counts.entry(pairing.positions[0].clone()).or_default() += 1;
            }
            assert_eq!(counts.len(), 6);
            // 1000 expected, standard deviation 29.
            assert!(counts.values().all(|&n| (850..1150).contains(&n)));
        }
    }
}
