//! Rings Z_2^k and words of bits, as the element types of shared vectors.
//!
//! Knows nothing of sharing: it names what protocols need of a machine word, once, so that they
//! are written once for all widths.

use zerocopy::{FromBytes, Immutable, IntoBytes};
use zeroize::Zeroize;

#[cfg(target_endian = "big")]
compile_error!("words travel in the machine's order, which must be little-endian");

/// A machine word that can be cut from a random stream and sent as it lies in memory.
pub trait Word:
    Copy + Default + Eq + Send + Sync + FromBytes + IntoBytes + Immutable + Zeroize + 'static
{
    /// Bytes of one word.
    const BYTES: usize;
}

/// An element of Z_2^k. All arithmetic wraps.
pub trait Ring: Word {
    /// `k`.
    const BITS: u32;
    /// One.
    const ONE: Self;
    /// The sum.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// The difference.
    #[must_use]
    fn minus(self, other: Self) -> Self;
    /// The product.
    #[must_use]
    fn times(self, other: Self) -> Self;
    /// From a small number; wraps above `k` bits.
    fn from_u64(value: u64) -> Self;
    /// Widened to 128 bits.
    fn to_u128(self) -> u128;
}

macro_rules! words {
    ($($t:ty),*) => {$(
        impl Word for $t {
            const BYTES: usize = size_of::<$t>();
        }
    )*};
}
words!(u8, u16, u32, u64, u128);

macro_rules! rings {
    ($($t:ty),*) => {$(
        impl Ring for $t {
            const BITS: u32 = <$t>::BITS;
            const ONE: Self = 1;
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            #[allow(clippy::cast_possible_truncation, clippy::cast_lossless)]
            fn from_u64(value: u64) -> Self {
                value as Self
            }
            #[inline(always)]
            #[allow(clippy::cast_lossless, clippy::unnecessary_cast)]
            fn to_u128(self) -> u128 {
                self as u128
            }
        }
    )*};
}
rings!(u32, u64, u128);

/// The group in which a vector is shared: addition modulo 2^k, or XOR. Protocols that only add and
/// subtract (shuffles, prefix sums, masks) are written once for both.
pub trait Group: 'static {
    /// Its elements.
    type Element: Word;
    /// The sum.
    fn add(a: Self::Element, b: Self::Element) -> Self::Element;
    /// The difference.
    fn sub(a: Self::Element, b: Self::Element) -> Self::Element;
}

/// Z_2^k with addition.
pub struct Additive<T>(std::marker::PhantomData<T>);

/// Words with XOR.
pub struct Xor<T>(std::marker::PhantomData<T>);

impl<T: Ring> Group for Additive<T> {
    type Element = T;
    #[inline(always)]
    fn add(a: T, b: T) -> T {
        a.plus(b)
    }
    #[inline(always)]
    fn sub(a: T, b: T) -> T {
        a.minus(b)
    }
}

impl<T: Word + std::ops::BitXor<Output = T>> Group for Xor<T> {
    type Element = T;
    #[inline(always)]
    fn add(a: T, b: T) -> T {
        a ^ b
    }
    #[inline(always)]
    fn sub(a: T, b: T) -> T {
        a ^ b
    }
}
