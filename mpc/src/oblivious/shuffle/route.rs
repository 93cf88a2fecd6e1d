//! One party's part in moving rows: see the module above for the protocol.

use crate::context::{Context, pieces};
use crate::error::Result;
use crate::net::Step;
use crate::ring::{Group, Word};
use crate::share::Role;

/// Two components of some words.
pub(super) type Components<G> = (Vec<<G as Group>::Element>, Vec<<G as Group>::Element>);

/// My part in one passage. `a` knows the first and second factor, `b` the first and third, `c` the
/// second and third. Gathers compose as `out[j] = in[g[j]]`.
pub(super) struct Route {
    pub(super) a: Role,
    pub(super) b: Role,
    pub(super) c: Role,
    pub(super) part: Part,
}

pub(super) enum Part {
    /// Both components through the first and second factor.
    A { both: Vec<u32> },
    /// One component through the first factor; what arrives through the third.
    B { first: Vec<u32>, third: Vec<u32> },
    /// What arrives through the second and third; the second mask through the third.
    C { both: Vec<u32>, third: Vec<u32> },
}

/// The component that a pair holds in common.
fn common(x: Role, y: Role) -> usize {
    if x.next() == y { y.index() } else { x.index() }
}

/// Rows moved at a time: what is drawn, moved and sent meets in a cache.
const PIECE: usize = 1 << 16;

impl Route {
    /// All words of `x` and `y` (my components, `stride` a row) through the passage. They are let go as
    /// soon as they are read.
    pub(super) fn run<G: Group>(
        &self,
        ctx: &mut Context,
        step: &Step,
        x: impl AsRef<[G::Element]> + Sync,
        y: impl AsRef<[G::Element]> + Sync,
        stride: usize,
    ) -> Result<Components<G>> {
        let me = ctx.role();
        let count = x.as_ref().len();
        let (to_b, to_c, reshare) = (step.narrow("x"), step.narrow("y"), step.narrow("reshare"));
        let (ab, ac, bc) = (
            common(self.a, self.b),
            common(self.a, self.c),
            common(self.b, self.c),
        );
        let cut = Cut::new(count / stride, stride, ctx.threads());
        let new = || vec![G::Element::default(); count];
        // My two fresh output components, by index.
        let (first, second) = match &self.part {
            Part::A { both } => {
                let mut sum = new();
                cut.each(ctx, &mut sum, |ctx, i, from, sum| {
                    draw(ctx, ab, &to_c.at("", i), sum)?;
                    let end = from + sum.len();
                    let (x, y) = (&x.as_ref()[from..end], &y.as_ref()[from..end]);
                    for ((s, x), y) in sum.iter_mut().zip(x).zip(y) {
                        *s = G::add(*s, G::add(*x, *y));
                    }
                    Ok(())
                })?;
                drop((x, y));
                // What I send passes through the memory of an output.
                let (mut with_b, mut with_c) = (new(), new());
                cut.each(ctx, &mut with_b, |ctx, i, from, out| {
                    draw(ctx, ac, &to_b.at("", i), out)?;
                    cut.add_gathered::<G>(out, &sum, both, from);
                    ctx.send(self.b, &to_b.at("", i), out)?;
                    draw(ctx, ab, &reshare.at("", i), out)
                })?;
                drop(sum);
                cut.each(ctx, &mut with_c, |ctx, i, _, out| {
                    draw(ctx, ac, &reshare.at("", i), out)
                })?;
                ((ab, with_b), (ac, with_c))
            }
            Part::B { first, third } => {
                let mut mine = new();
                let is_first = me.index() == bc;
                cut.each(ctx, &mut mine, |ctx, i, from, mine| {
                    draw(ctx, ab, &to_c.at("", i), mine)?;
                    let w = if is_first { x.as_ref() } else { y.as_ref() };
                    for (m, w) in mine.iter_mut().zip(&w[from..]) {
                        *m = G::sub(*w, *m);
                    }
                    Ok(())
                })?;
                drop((x, y));
                let mut buffer = new();
                cut.each(ctx, &mut buffer, |ctx, i, from, out| {
                    cut.gather(out, &mine, first, from);
                    ctx.send(self.c, &to_c.at("", i), out)
                })?;
                cut.each(ctx, &mut buffer, |ctx, i, _, out| {
                    ctx.receive(self.a, &to_b.at("", i), out)
                })?;
                let mut with_a = new();
                cut.each(ctx, &mut with_a, |ctx, i, _, out| {
                    draw(ctx, ab, &reshare.at("", i), out)
                })?;
                let mut rest = mine;
                cut.each(ctx, &mut rest, |ctx, i, from, out| {
                    cut.gather(out, &buffer, third, from);
                    sub_from::<G>(out, &with_a[from..]);
                    ctx.send(self.c, &reshare.at("", i), out)
                })?;
                drop(buffer);
                self.add_rest::<G>(ctx, &cut, self.c, &reshare, &mut rest)?;
                ((ab, with_a), (bc, rest))
            }
            Part::C { both, third } => {
                drop((x, y));
                let mut mask = new();
                cut.each(ctx, &mut mask, |ctx, i, _, mask| {
                    draw(ctx, ac, &to_b.at("", i), mask)
                })?;
                let mut rest = new();
                cut.each(ctx, &mut rest, |_, _, from, out| {
                    cut.gather(out, &mask, third, from);
                    Ok(())
                })?;
                let mut buffer = mask;
                cut.each(ctx, &mut buffer, |ctx, i, _, out| {
                    ctx.receive(self.b, &to_c.at("", i), out)
                })?;
                let mut with_a = new();
                cut.each(ctx, &mut with_a, |ctx, i, _, out| {
                    draw(ctx, ac, &reshare.at("", i), out)
                })?;
                cut.each(ctx, &mut rest, |ctx, i, from, out| {
                    cut.subtract_from_gathered::<G>(out, &buffer, both, from);
                    sub_from::<G>(out, &with_a[from..]);
                    ctx.send(self.b, &reshare.at("", i), out)
                })?;
                drop(buffer);
                self.add_rest::<G>(ctx, &cut, self.b, &reshare, &mut rest)?;
                ((ac, with_a), (bc, rest))
            }
        };
        Ok(if first.0 == me.index() {
            (first.1, second.1)
        } else {
            (second.1, first.1)
        })
    }

    /// Adds the other remainder.
    fn add_rest<G: Group>(
        &self,
        ctx: &mut Context,
        cut: &Cut,
        from: Role,
        step: &Step,
        rest: &mut [G::Element],
    ) -> Result<()> {
        cut.each(ctx, rest, |ctx, i, _, rest| {
            let mut theirs = vec![G::Element::default(); rest.len()];
            ctx.receive(from, &step.at("", i), &mut theirs)?;
            for (o, x) in rest.iter_mut().zip(&theirs) {
                *o = G::add(*o, *x);
            }
            Ok(())
        })
    }
}

/// How words are cut into pieces of whole rows, the same at all parties.
pub(in super::super) struct Cut {
    stride: usize,
    /// Words a piece.
    length: usize,
}

impl Cut {
    pub(in super::super) fn new(rows: usize, stride: usize, threads: usize) -> Self {
        let first = pieces(rows, threads, PIECE).into_iter().next();
        Self {
            stride,
            length: first.map_or(1, |piece| piece.len() * stride),
        }
    }

    /// Runs `job` on each piece of `words`: (context, number, first word, words).
    pub(in super::super) fn each<T: Word>(
        &self,
        ctx: &mut Context,
        words: &mut [T],
        job: impl Fn(&mut Context, usize, usize, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        let parts = words.chunks_mut(self.length).collect();
        ctx.parallel(parts, |ctx, i, part| job(ctx, i, i * self.length, part))?;
        Ok(())
    }

    /// The rows of `source` for the words `from..from + out.len()`, with what to do to each.
    fn visit<T: Word>(
        &self,
        out: &mut [T],
        source: &[T],
        index: &[u32],
        from: usize,
        act: impl Fn(&mut T, T),
    ) {
        let index = &index[from / self.stride..];
        match self.stride {
            1 => visit_rows::<1, T>(out, source, index, act),
            2 => visit_rows::<2, T>(out, source, index, act),
            3 => visit_rows::<3, T>(out, source, index, act),
            4 => visit_rows::<4, T>(out, source, index, act),
            stride => {
                for (out, &i) in out.chunks_exact_mut(stride).zip(index) {
                    let at = i as usize * stride;
                    for (out, &word) in out.iter_mut().zip(&source[at..at + stride]) {
                        act(out, word);
                    }
                }
            }
        }
    }

    pub(in super::super) fn gather<T: Word>(
        &self,
        out: &mut [T],
        source: &[T],
        index: &[u32],
        from: usize,
    ) {
        self.visit(out, source, index, from, |out, word| *out = word);
    }

    fn add_gathered<G: Group>(
        &self,
        out: &mut [G::Element],
        source: &[G::Element],
        index: &[u32],
        from: usize,
    ) {
        self.visit(out, source, index, from, |out, word| {
            *out = G::add(*out, word);
        });
    }

    fn subtract_from_gathered<G: Group>(
        &self,
        out: &mut [G::Element],
        source: &[G::Element],
        index: &[u32],
        from: usize,
    ) {
        self.visit(out, source, index, from, |out, word| {
            *out = G::sub(word, *out);
        });
    }
}

/// [`Cut::visit`] for rows of `S` words.
fn visit_rows<const S: usize, T: Word>(
    out: &mut [T],
    source: &[T],
    index: &[u32],
    act: impl Fn(&mut T, T),
) {
    let rows = source.as_chunks::<S>().0;
    for (out, &i) in out.as_chunks_mut::<S>().0.iter_mut().zip(index) {
        for (out, word) in out.iter_mut().zip(rows[i as usize]) {
            act(out, word);
        }
    }
}

/// Fills `out` with random words that the holders of `component` have in common; nothing where I am not
/// one of them.
fn draw<T: Word>(ctx: &mut Context, component: usize, step: &Step, out: &mut [T]) -> Result<()> {
    if let Some(mut stream) = ctx.stream_of_component(component, step)? {
        stream.fill(out);
    }
    Ok(())
}

fn sub_from<G: Group>(out: &mut [G::Element], x: &[G::Element]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = G::sub(*o, *x);
    }
}
