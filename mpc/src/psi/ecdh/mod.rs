//! Private set intersection between two parties, without any third: Diffie-Hellman on ristretto255.
//!
//! Receiver and sender draw exponents `a` and `b`, fresh for the run. Keys are hashed to the group
//! (RFC 9380) under a tag that names the run.
//! 1. The receiver sends `H(x)^a` of its keys.
//! 2. The sender sends `H(y)^b` of its keys in random order, and returns the receiver's elements raised
//!    to `b`, cut to a tag: in the receiver's order ([`Output::Intersection`]), or in one random
//!    order ([`Output::Cardinality`]).
//! 3. The receiver raises the sender's elements to `a` and compares tags.
//!
//! Rows are padded to the plan's public sizes by random elements, which match nothing. Source:
//! Meadows, S&P 1986; Huberman, Franklin, Hogg, EC 1999; the shuffled variant as in De Cristofaro,
//! Gasti, Tsudik, CANS 2012. Both sides multiply by 2 on the way, because points are compressed in
//! batches that way; exponents are then `2a` and `2b`. Bytes: 32 a row of either side, and
//! [`Plan::tag_bytes`] a row of the receiver's. Rounds: 2, in chunks. Adversary: semi-honest, DDH in the
//! random-oracle model. Leakage: the padded sizes to both; to the receiver which of its keys are the
//! sender's (`membership`), or how many. See `docs/protocols/psi-ecdh.md`.

mod hash;
mod logarithm;
pub mod sum;
#[cfg(test)]
mod tests;

use crate::error::{Error, Misbehaviour, Result};
use crate::net::{Link, Participant, Step};
use crate::prss::{Seed, Stream};
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use hash::Domain;
use zeroize::Zeroize;

/// Bytes of a group element.
const ELEMENT: usize = 32;

/// Rows a thread handles between two exchanges.
const CHUNK: usize = 2048;

const NAME: &str = "psi";

/// What both parties agree on beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Who learns the result.
    pub receiver: Participant,
    /// Who helps and learns nothing but sizes.
    pub sender: Participant,
    /// The receiver's rows after padding.
    pub receiver_rows: usize,
    /// The sender's rows after padding.
    pub sender_rows: usize,
    /// What the receiver learns.
    pub output: Output,
    /// Names the run: keys of two runs are hashed differently.
    pub run: [u8; 32],
}

/// What the receiver learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Which of its rows the sender has.
    Intersection,
    /// How many of its rows the sender has.
    Cardinality,
}

/// One party's keys: `write(row, bytes)` appends the canonical encoding of a row's key, the same bytes
/// for the same key at both parties and injective (see [`super::tag::KeyWriter`]).
pub struct Keys<'k> {
    /// How many.
    pub rows: usize,
    /// Their encoding.
    pub write: &'k (dyn Fn(usize, &mut Vec<u8>) + Sync),
}

impl std::fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} rows)", self.rows)
    }
}

/// What the receiver has at the end.
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    /// Whether each of its rows is the sender's.
    Rows(Vec<bool>),
    /// How many are.
    Count(usize),
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Found(redacted)")
    }
}

impl Plan {
    /// Bytes of a tag: two different keys of the run have one tag with probability below 2^-40.
    #[must_use]
    pub fn tag_bytes(&self) -> usize {
        let bits = |rows: usize| usize::BITS as usize - rows.leading_zeros() as usize;
        (40 + bits(self.receiver_rows) + bits(self.sender_rows)).div_ceil(8)
    }

    fn chunks(rows: usize, threads: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let size = CHUNK * threads.max(1);
        (0..rows)
            .step_by(size)
            .map(move |from| from..rows.min(from + size))
    }

    fn check(
        &self,
        me: Participant,
        role: Participant,
        keys: &Keys<'_>,
        rows: usize,
    ) -> Result<()> {
        let invalid = |what: String| Error::InvalidInput {
            operator: NAME,
            what,
        };
        if self.receiver == self.sender || me != role {
            return Err(invalid(format!("participant {me} in the part of {role}")));
        }
        if keys.rows > rows || self.receiver_rows.max(self.sender_rows) > u32::MAX as usize {
            return Err(invalid(format!("{} rows, padded to {rows}", keys.rows)));
        }
        refuse_duplicates(keys)
    }
}

/// Runs the protocol as the receiver. `private` is fresh and known to this party alone; `threads` share
/// the work on the group.
///
/// # Errors
/// `DuplicateKey` or `InvalidInput` before anything is sent; `PeerMisbehaved` for bytes that are no group
/// element; those of the link.
pub fn receive(
    link: &mut dyn Link,
    step: &Step,
    plan: &Plan,
    keys: &Keys<'_>,
    private: &Seed,
    threads: usize,
) -> Result<Found> {
    let (returned, mut theirs) = exchange_as_receiver(link, step, plan, keys, private, threads)?;
    theirs.sort_unstable();
    let found = returned.iter().map(|tag| theirs.binary_search(tag).is_ok());
    Ok(match plan.output {
        Output::Intersection => Found::Rows(found.take(keys.rows).collect()),
        Output::Cardinality => Found::Count(found.filter(|&found| found).count()),
    })
}

/// Ends with the tags of my elements as they were returned, and those of the sender's in its order.
fn exchange_as_receiver(
    link: &mut dyn Link,
    step: &Step,
    plan: &Plan,
    keys: &Keys<'_>,
    private: &Seed,
    threads: usize,
) -> Result<(Vec<u128>, Vec<u128>)> {
    plan.check(link.me(), plan.receiver, keys, plan.receiver_rows)?;
    let mine = Secrets::draw(plan, step, private);
    let mut theirs: Vec<u128> = Vec::with_capacity(plan.sender_rows);
    let mut returned: Vec<u128> = Vec::with_capacity(plan.receiver_rows);
    let width = plan.tag_bytes();
    let mut out = Plan::chunks(plan.receiver_rows, threads).enumerate();
    let mut sender = Plan::chunks(plan.sender_rows, threads).enumerate();
    let order = |row: usize| (row < keys.rows).then_some(row);
    loop {
        let (sending, receiving) = (out.next(), sender.next());
        if sending.is_none() && receiving.is_none() {
            break;
        }
        if let Some((chunk, rows)) = &sending {
            let elements = mine.elements(keys, rows.clone(), &order, threads, *chunk);
            link.send(plan.sender, &step.at("receiver", *chunk), &elements)?;
        }
        if let Some((chunk, rows)) = receiving {
            let step = step.at("sender", chunk);
            let elements = take_elements(link, plan.sender, &step, rows.len(), threads)?;
            theirs.extend(tags(&mine.raise(&elements, threads), width));
        }
        if let Some((chunk, rows)) = sending
            && plan.output == Output::Intersection
        {
            take_tags(
                link,
                plan,
                &step.at("returned", chunk),
                rows.len(),
                &mut returned,
            )?;
        }
    }
    if plan.output == Output::Cardinality {
        for (chunk, rows) in Plan::chunks(plan.receiver_rows, threads).enumerate() {
            take_tags(
                link,
                plan,
                &step.at("returned", chunk),
                rows.len(),
                &mut returned,
            )?;
        }
    }
    Ok((returned, theirs))
}

/// Runs the protocol as the sender.
///
/// # Errors
/// As [`receive`].
pub fn send(
    link: &mut dyn Link,
    step: &Step,
    plan: &Plan,
    keys: &Keys<'_>,
    private: &Seed,
    threads: usize,
) -> Result<()> {
    exchange_as_sender(link, step, plan, keys, private, threads).map(drop)
}

/// Ends with the row at each place of what was sent; rows from `keys.rows` on are padding.
fn exchange_as_sender(
    link: &mut dyn Link,
    step: &Step,
    plan: &Plan,
    keys: &Keys<'_>,
    private: &Seed,
    threads: usize,
) -> Result<Vec<u32>> {
    plan.check(link.me(), plan.sender, keys, plan.sender_rows)?;
    let mut mine = Secrets::draw(plan, step, private);
    let width = plan.tag_bytes();
    let places = mine.shuffle.permutation(plan.sender_rows);
    let order = |row: usize| Some(places[row] as usize).filter(|&row| row < keys.rows);
    let mut held: Vec<u128> = Vec::new();
    let mut own = Plan::chunks(plan.sender_rows, threads).enumerate();
    let mut receiver = Plan::chunks(plan.receiver_rows, threads).enumerate();
    loop {
        let (sending, receiving) = (own.next(), receiver.next());
        if sending.is_none() && receiving.is_none() {
            break;
        }
        if let Some((chunk, rows)) = sending {
            let elements = mine.elements(keys, rows, &order, threads, chunk);
            link.send(plan.receiver, &step.at("sender", chunk), &elements)?;
        }
        if let Some((chunk, rows)) = receiving {
            let step_in = step.at("receiver", chunk);
            let elements = take_elements(link, plan.receiver, &step_in, rows.len(), threads)?;
            let raised = tags(&mine.raise(&elements, threads), width);
            match plan.output {
                Output::Intersection => {
                    give_tags(link, plan, &step.at("returned", chunk), raised)?;
                }
                Output::Cardinality => held.extend(raised),
            }
        }
    }
    if plan.output == Output::Cardinality {
        // Only in a random order do tags say how many, and not which.
        let order = mine.shuffle.permutation(held.len());
        let mut shuffled = order.iter().map(|&row| held[row as usize]);
        for (chunk, rows) in Plan::chunks(plan.receiver_rows, threads).enumerate() {
            let part: Vec<u128> = shuffled.by_ref().take(rows.len()).collect();
            give_tags(link, plan, &step.at("returned", chunk), part)?;
        }
    }
    Ok(places)
}

/// What a party draws for itself.
struct Secrets {
    exponent: Scalar,
    domain: Domain,
    /// Padding elements of a chunk are drawn under this key and the chunk's number.
    padding: [u8; 32],
    shuffle: Stream,
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.exponent.zeroize();
        self.padding.zeroize();
    }
}

impl Secrets {
    fn draw(plan: &Plan, step: &Step, private: &Seed) -> Self {
        let part = |name: &str| {
            let mut hasher = blake3::Hasher::new_keyed(&private.0);
            hasher.update(step.narrow(name).path().as_bytes());
            hasher.update(&plan.run);
            hasher.finalize_xof()
        };
        let mut wide = [0; 64];
        part("exponent").fill(&mut wide);
        let exponent = Scalar::from_bytes_mod_order_wide(&wide);
        wide.zeroize();
        let mut padding = [0; 32];
        part("padding").fill(&mut padding);
        let mut key = [0; 16];
        part("shuffle").fill(&mut key);
        let shuffle = Stream::new(&key);
        key.zeroize();
        let tag = [
            b"veilgate-psi-v1-ristretto255_XMD:SHA-512_R255MAP_RO_",
            &plan.run[..],
        ]
        .concat();
        Self {
            exponent,
            domain: Domain::new(&tag),
            padding,
            shuffle,
        }
    }

    /// Raised elements of the rows at `order(place)`, random ones where there is no row, on the wire.
    fn elements(
        &self,
        keys: &Keys<'_>,
        places: std::ops::Range<usize>,
        order: &(dyn Fn(usize) -> Option<usize> + Sync),
        threads: usize,
        chunk: usize,
    ) -> Vec<u8> {
        let places: Vec<usize> = places.collect();
        let raised = in_parallel(&places, threads, |part, places| {
            let mut padding = self.padding_stream(chunk, part);
            let mut key = Vec::new();
            let points: Vec<RistrettoPoint> = places
                .iter()
                .map(|&place| match order(place) {
                    Some(row) => {
                        key.clear();
                        (keys.write)(row, &mut key);
                        self.domain.to_group(&key) * self.exponent
                    }
                    None => {
                        let mut uniform = [0_u8; 64];
                        padding.fill(&mut uniform);
                        RistrettoPoint::from_uniform_bytes(&uniform)
                    }
                })
                .collect();
            key.zeroize();
            RistrettoPoint::double_and_compress_batch(&points)
        });
        raised
            .iter()
            .flat_map(CompressedRistretto::to_bytes)
            .collect()
    }

    fn padding_stream(&self, chunk: usize, part: usize) -> Stream {
        let name = [(chunk as u64).to_le_bytes(), (part as u64).to_le_bytes()].concat();
        let hash = blake3::keyed_hash(&self.padding, &name);
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        Stream::new(&key)
    }

    fn raise(&self, elements: &[RistrettoPoint], threads: usize) -> Vec<CompressedRistretto> {
        in_parallel(elements, threads, |_, points| {
            let raised: Vec<RistrettoPoint> = points.iter().map(|p| p * self.exponent).collect();
            RistrettoPoint::double_and_compress_batch(&raised)
        })
    }
}

/// Runs `work` on equal parts of `items`, each on its own thread; `work` is told the part's number.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(usize, &[T]) -> Vec<R> + Sync,
) -> Vec<R> {
    let size = items.len().div_ceil(threads.max(1)).max(1);
    if items.len() <= size {
        return work(0, items);
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(size)
            .enumerate()
            .map(|(part, items)| {
                let work = &work;
                scope.spawn(move || work(part, items))
            })
            .collect();
        parts
            .into_iter()
            .flat_map(|part| match part.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

/// Receives group elements; whatever is none, or the neutral one, is the peer's fault.
fn take_elements(
    link: &mut dyn Link,
    from: Participant,
    step: &Step,
    rows: usize,
    threads: usize,
) -> Result<Vec<RistrettoPoint>> {
    let mut bytes = vec![0; rows * ELEMENT];
    link.recv_into(from, step, &mut bytes)?;
    let encoded = bytes.as_chunks::<ELEMENT>().0;
    let points = in_parallel(encoded, threads, |_, encoded| {
        let neutral = CompressedRistretto::default();
        encoded
            .iter()
            .map(|bytes| {
                let encoded = CompressedRistretto(*bytes);
                encoded.decompress().filter(|_| encoded != neutral)
            })
            .collect()
    });
    let points: Option<Vec<RistrettoPoint>> = points.into_iter().collect();
    points.ok_or_else(|| Error::PeerMisbehaved {
        peer: from,
        step: step.clone(),
        what: Misbehaviour::Malformed("bytes that are no group element"),
    })
}

/// The first `width` bytes of each element's encoding.
fn tags(elements: &[CompressedRistretto], width: usize) -> Vec<u128> {
    let tag = |element: &CompressedRistretto| {
        let mut tag = [0; 16];
        tag[..width].copy_from_slice(&element.as_bytes()[..width]);
        u128::from_le_bytes(tag)
    };
    elements.iter().map(tag).collect()
}

fn give_tags(link: &mut dyn Link, plan: &Plan, step: &Step, tags: Vec<u128>) -> Result<()> {
    let width = plan.tag_bytes();
    let bytes: Vec<u8> = tags
        .into_iter()
        .flat_map(|tag| tag.to_le_bytes().into_iter().take(width))
        .collect();
    link.send(plan.receiver, step, &bytes)
}

fn take_tags(
    link: &mut dyn Link,
    plan: &Plan,
    step: &Step,
    rows: usize,
    tags: &mut Vec<u128>,
) -> Result<()> {
    let width = plan.tag_bytes();
    let mut bytes = vec![0; rows * width];
    link.recv_into(plan.sender, step, &mut bytes)?;
    tags.extend(bytes.chunks_exact(width).map(|bytes| {
        let mut tag = [0; 16];
        tag[..width].copy_from_slice(bytes);
        u128::from_le_bytes(tag)
    }));
    Ok(())
}

/// A key twice would tell the other party that it is: equal keys give equal elements.
fn refuse_duplicates(keys: &Keys<'_>) -> Result<()> {
    let mut key = Vec::new();
    let mut hashes: Vec<[u8; 16]> = (0..keys.rows)
        .map(|row| {
            key.clear();
            (keys.write)(row, &mut key);
            let mut short = [0; 16];
            short.copy_from_slice(&blake3::hash(&key).as_bytes()[..16]);
            short
        })
        .collect();
    key.zeroize();
    hashes.sort_unstable();
    let twice = hashes.windows(2).any(|pair| pair[0] == pair[1]);
    hashes.zeroize();
    if twice {
        Err(Error::DuplicateKey)
    } else {
        Ok(())
    }
}
