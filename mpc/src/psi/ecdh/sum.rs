//! The sum of the sender's values over the keys that both have, where there are at least k of them.
//!
//! After the exchange for a cardinality, the receiver knows at which places of the sender's random order
//! there are keys of its own, though not which. The sender gives, in that order, its values encrypted under a key
//! of its own: lifted ElGamal on ristretto255, a value as four numbers of 16 bits. The receiver counts
//! places, and only if there are at least `at_least` adds up the ciphertexts there, makes the sum
//! fresh, and returns it; otherwise it returns a message of the same length that says so. The sender
//! decrypts (four logarithms below `2^16 rows`) and tells the receiver the sum.
//!
//! Leakage: sizes; the number of common keys to the receiver; to both whether it is at least k and, if
//! so, the sum. Views: ciphertexts are indistinguishable from random pairs (DDH); a fresh ciphertext
//! depends on the sum alone. That fewer than k are not opened is the receiver's doing: adversary
//! semi-honest. Bytes beside the exchange: 256 a row of the sender's, 305 in all. Source: Ion et al.,
//! "On Deploying Secure Computing: Private Intersection-Sum-with-Cardinality", EuroS&P 2020.

use super::logarithm::Logarithms;
use super::{
    ELEMENT, Keys, NAME, Output, Plan, exchange_as_receiver, exchange_as_sender, in_parallel,
};
use crate::error::{Error, Misbehaviour, Result};
use crate::net::{Link, Step};
use crate::prss::{Seed, Stream};
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use zeroize::Zeroize;

/// Numbers of a value, and bits of each.
const LIMBS: usize = 4;
const LIMB_BITS: usize = 16;

/// Bytes of the ciphertexts of one value.
const CIPHERTEXTS: usize = LIMBS * 2 * ELEMENT;

/// What both parties agree on beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumPlan {
    /// The exchange, for [`Output::Cardinality`].
    pub exchange: Plan,
    /// With fewer common keys there is no sum; at least 1.
    pub at_least: usize,
}

/// What the receiver has at the end.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundSum {
    /// How many keys are common.
    pub count: usize,
    /// The sum of their values, unless there are too few.
    pub sum: Option<u128>,
}

impl std::fmt::Debug for FoundSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FoundSum(redacted)")
    }
}

impl SumPlan {
    fn check(&self) -> Result<()> {
        if self.exchange.output != Output::Cardinality || self.at_least == 0 {
            return Err(invalid(
                "a sum needs a cardinality and k of at least 1".to_owned(),
            ));
        }
        Ok(())
    }
}

fn invalid(what: String) -> Error {
    Error::InvalidInput {
        operator: NAME,
        what,
    }
}

/// Ciphertexts of one value's numbers: (`r G`, `r K + 2 m G`).
type Sealed = [(RistrettoPoint, RistrettoPoint); LIMBS];

fn nothing() -> Sealed {
    [(RistrettoPoint::identity(), RistrettoPoint::identity()); LIMBS]
}

fn add(sum: &mut Sealed, other: &Sealed) {
    for (sum, other) in sum.iter_mut().zip(other) {
        sum.0 += other.0;
        sum.1 += other.1;
    }
}

/// A random scalar, the next of a stream.
fn scalar(stream: &mut Stream) -> Scalar {
    let mut wide = [0_u8; 64];
    stream.fill(&mut wide);
    let scalar = Scalar::from_bytes_mod_order_wide(&wide);
    wide.zeroize();
    scalar
}

fn private_stream(private: &Seed, step: &Step, part: usize) -> Stream {
    super::super::plan::stream(private, &step.at("part", part))
}

fn encode(sealed: &[Sealed]) -> Vec<u8> {
    let points = sealed.iter().flatten().flat_map(|(a, b)| [*a, *b]);
    let points: Vec<RistrettoPoint> = points.collect();
    // Twice each: numbers are to the base 2 G.
    let encoded = RistrettoPoint::double_and_compress_batch(&points);
    encoded
        .iter()
        .flat_map(CompressedRistretto::to_bytes)
        .collect()
}

fn decode(bytes: &[u8]) -> Option<Sealed> {
    let mut sealed = nothing();
    let pairs = bytes.as_chunks::<{ 2 * ELEMENT }>().0;
    for (pair, bytes) in sealed.iter_mut().zip(pairs) {
        let halves = bytes.as_chunks::<ELEMENT>().0;
        pair.0 = CompressedRistretto(halves[0]).decompress()?;
        pair.1 = CompressedRistretto(halves[1]).decompress()?;
    }
    Some(sealed)
}

/// Runs the protocol as the receiver, who has keys alone.
///
/// # Errors
/// As [`super::receive`]; `InvalidInput` for k of 0.
pub fn receive_sum(
    link: &mut dyn Link,
    step: &Step,
    plan: &SumPlan,
    keys: &Keys<'_>,
    private: &Seed,
    threads: usize,
) -> Result<FoundSum> {
    plan.check()?;
    let exchange = &plan.exchange;
    let (mut returned, theirs) =
        exchange_as_receiver(link, step, exchange, keys, private, threads)?;
    returned.sort_unstable();
    let common: Vec<bool> = theirs
        .iter()
        .map(|tag| returned.binary_search(tag).is_ok())
        .collect();
    let count = common.iter().filter(|&&common| common).count();
    let malformed = |step: &Step| Error::PeerMisbehaved {
        peer: exchange.sender,
        step: step.clone(),
        what: Misbehaviour::Malformed("bytes that are no group element"),
    };
    let mut key = [0; ELEMENT];
    let key_step = step.narrow("key");
    link.recv_into(exchange.sender, &key_step, &mut key)?;
    let key = CompressedRistretto(key).decompress();
    let key = key.ok_or_else(|| malformed(&key_step))?;
    let mut sum = nothing();
    for (chunk, rows) in Plan::chunks(exchange.sender_rows, threads).enumerate() {
        let step = step.at("values", chunk);
        let mut bytes = vec![0; rows.len() * CIPHERTEXTS];
        link.recv_into(exchange.sender, &step, &mut bytes)?;
        let there: Vec<&[u8]> = bytes
            .chunks_exact(CIPHERTEXTS)
            .zip(&common[rows])
            .filter_map(|(bytes, &common)| common.then_some(bytes))
            .collect();
        let sums = in_parallel(&there, threads, |_, there| {
            let mut sum = nothing();
            for bytes in there {
                match decode(bytes) {
                    Some(sealed) => add(&mut sum, &sealed),
                    None => return vec![None],
                }
            }
            vec![Some(sum)]
        });
        for part in sums {
            add(&mut sum, &part.ok_or_else(|| malformed(&step))?);
        }
    }
    let mut answer = vec![0; 1 + CIPHERTEXTS];
    if count >= plan.at_least {
        // What was added up is known to the sender by its randomness: fresh randomness hides it.
        let mut stream = private_stream(private, &step.narrow("fresh"), 0);
        for pair in &mut sum {
            let fresh = scalar(&mut stream);
            pair.0 += RISTRETTO_BASEPOINT_POINT * fresh;
            pair.1 += key * fresh;
        }
        answer[0] = 1;
        let points = sum.iter().flat_map(|(a, b)| [a.compress(), b.compress()]);
        for (bytes, point) in answer[1..].chunks_exact_mut(ELEMENT).zip(points) {
            bytes.copy_from_slice(point.as_bytes());
        }
    }
    link.send(exchange.sender, &step.narrow("total"), &answer)?;
    let mut opened = [0; 16];
    link.recv_into(exchange.sender, &step.narrow("sum"), &mut opened)?;
    Ok(FoundSum {
        count,
        sum: (count >= plan.at_least).then_some(u128::from_le_bytes(opened)),
    })
}

/// Runs the protocol as the sender, who has a value for each key; ends with the sum, unless too few keys
/// are common.
///
/// # Errors
/// As [`super::send`]; `InvalidInput` for other rows of values; `PeerMisbehaved` for a sum that is none.
pub fn send_sum(
    link: &mut dyn Link,
    step: &Step,
    plan: &SumPlan,
    keys: &Keys<'_>,
    values: &[u64],
    private: &Seed,
    threads: usize,
) -> Result<Option<u128>> {
    plan.check()?;
    let exchange = &plan.exchange;
    if values.len() != keys.rows {
        return Err(invalid(format!(
            "{} values of {} keys",
            values.len(),
            keys.rows
        )));
    }
    let places = exchange_as_sender(link, step, exchange, keys, private, threads)?;
    let mut secret = scalar(&mut private_stream(private, &step.narrow("secret"), 0));
    let key = RISTRETTO_BASEPOINT_POINT * secret;
    link.send(
        exchange.receiver,
        &step.narrow("key"),
        key.compress().as_bytes(),
    )?;
    let (of_base, of_key) = (
        RistrettoBasepointTable::create(&RISTRETTO_BASEPOINT_POINT),
        RistrettoBasepointTable::create(&key),
    );
    for (chunk, rows) in Plan::chunks(exchange.sender_rows, threads).enumerate() {
        let seal_step = step.at("seal", chunk);
        let bytes = in_parallel(&places[rows], threads, |part, places| {
            let mut stream = private_stream(private, &seal_step, part);
            let sealed: Vec<Sealed> = places
                .iter()
                .map(|&row| {
                    // A padding row's value is 0.
                    let value = values.get(row as usize).copied().unwrap_or(0);
                    std::array::from_fn(|limb| {
                        let number = value >> (limb * LIMB_BITS) & ((1 << LIMB_BITS) - 1);
                        let fresh = scalar(&mut stream);
                        let number = &Scalar::from(number) * &of_base;
                        (&fresh * &of_base, &fresh * &of_key + number)
                    })
                })
                .collect();
            encode(&sealed)
        });
        link.send(exchange.receiver, &step.at("values", chunk), &bytes)?;
    }
    let total = step.narrow("total");
    let mut answer = vec![0; 1 + CIPHERTEXTS];
    link.recv_into(exchange.receiver, &total, &mut answer)?;
    let misbehaved = |what| Error::PeerMisbehaved {
        peer: exchange.receiver,
        step: total.clone(),
        what: Misbehaviour::Malformed(what),
    };
    let opened = match answer[0] {
        0 => None,
        _ => {
            let sealed = decode(&answer[1..]);
            let sealed = sealed.ok_or_else(|| misbehaved("bytes that are no group element"))?;
            let most = (exchange.sender_rows as u64) << LIMB_BITS;
            let logarithms = Logarithms::new(most);
            let mut sum = 0;
            for (limb, (a, b)) in sealed.iter().enumerate() {
                let number = logarithms.of(b - a * secret);
                let number = number.ok_or_else(|| misbehaved("a sum of other values"))?;
                sum += u128::from(number) << (limb * LIMB_BITS);
            }
            Some(sum)
        }
    };
    secret.zeroize();
    let bytes = opened.unwrap_or(0).to_le_bytes();
    link.send(exchange.receiver, &step.narrow("sum"), &bytes)?;
    Ok(opened)
}
