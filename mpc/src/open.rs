//! Opening values to all three parties inside a protocol. The only place that does; every caller says
//! beside the call why what it opens tells nothing.
//!
//! `P_i` lacks component `i + 2`, which `P_{i+1}` sends and `P_{i-1}` vouches for with a hash, so one
//! party that sends a wrong component is noticed. Words once each, 32 bytes, 1 round.

use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::ring::Word;
use crate::share::BitColumn;
use zerocopy::IntoBytes;

/// Opens XOR-shared words to everybody.
pub(crate) fn reveal_bits_that_tell_nothing(
    ctx: &mut Context,
    step: &Step,
    a: &[u64],
    b: &[u64],
) -> Result<Vec<u64>> {
    let mut out = missing_component(ctx, step, a, b)?;
    for ((x, a), b) in out.iter_mut().zip(a).zip(b) {
        *x ^= a ^ b;
    }
    #[cfg(test)]
    ctx.opened.extend(&out);
    Ok(out)
}

/// Opens additively shared positions to everybody.
pub(crate) fn reveal_positions_that_tell_nothing(
    ctx: &mut Context,
    step: &Step,
    a: &[u32],
    b: &[u32],
) -> Result<Vec<u32>> {
    let mut out = missing_component(ctx, step, a, b)?;
    for ((x, a), b) in out.iter_mut().zip(a).zip(b) {
        *x = x.wrapping_add(*a).wrapping_add(*b);
    }
    #[cfg(test)]
    ctx.opened.extend(out.iter().map(|&x| u64::from(x)));
    Ok(out)
}

/// Opens one shared bit whose opening the plan declares: whether a promised uniqueness is broken.
pub(crate) fn reveal_one_declared_bit(
    ctx: &mut Context,
    step: &Step,
    bit: &BitColumn,
) -> Result<bool> {
    let open = reveal_bits_that_tell_nothing(ctx, step, &[bit.a[0] & 1], &[bit.b[0] & 1])?;
    Ok(open[0] == 1)
}

/// The component that I lack, checked against its second holder.
fn missing_component<T: Word>(ctx: &mut Context, step: &Step, a: &[T], b: &[T]) -> Result<Vec<T>> {
    let (prev, next) = (ctx.role().prev(), ctx.role().next());
    let vouch = step.narrow("hash");
    ctx.send(prev, step, b)?;
    ctx.send(next, &vouch, blake3::hash(a.as_bytes()).as_bytes())?;
    let mut out = vec![T::default(); a.len()];
    ctx.receive(next, step, &mut out)?;
    let mut hash = [0_u8; 32];
    ctx.receive(prev, &vouch, &mut hash)?;
    if blake3::hash(out.as_bytes()).as_bytes() != &hash {
        return Err(ctx.equivocation(next, step, "opened component"));
    }
    Ok(out)
}
