//! Input sharing: an owner, computing or not, hands a replicated sharing of its columns to the three
//! computing parties.
//!
//! x = x0 + x1 + x2 (or XOR); component c is held by P_c and the party before it. The owner draws one
//! 32-byte key per component and sends it to the component's holders. What a component is:
//!
//! | owner | x_i | x_{i+1} | x_{i+2} | sent |
//! |---|---|---|---|---|
//! | P_i | x - x_{i+1}, sent to P_{i+2} | from its key | zero | one word a value in all |
//! | other (i = 2) | x - x_{i+1} - x_{i+2}, sent to P_2 and P_1 | from its key | from its key | two words a value in all |
//!
//! **Views.** A computing party that is not the owner gets keys and either nothing more (it expands
//! its components itself), or one explicit component, which is the value minus the expansion of a key
//! that this party does not get: uniform, by the PRG. So every view is simulated from the statement
//! alone. **Leakage**: rows and column shapes. **Rounds**: one message. **Source**: folklore;
//! Araki et al., CCS 2016, section 3, for the sharing.
//!
//! **Statement.** Before anything is sent, the owner commits to all three components: salted hashes in
//! an [`InputStatement`] that the gateway signs and distributes. Both holders of a component check
//! what they hold against the same statement, so an owner that hands them different components, or
//! others than it committed to, is found (`Misbehaviour::Equivocation`). Order: every owner calls
//! [`commit`], statements are exchanged, then owners call [`share`] and the others [`receive`].

mod column;
mod component;
mod statement;

pub use column::{ClearColumn, ColumnKind, MAX_WIDTH};
pub use statement::InputStatement;

pub(crate) use component::Component;

use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::net::{Link, Participant, Step};
use crate::prss::{Seed, Stream};
use crate::table::Column;
use zeroize::Zeroize;

const OPERATOR: &str = "input";

/// Columns of the two components that one computing party holds: P_i those of x_i and x_{i+1}.
type Held = [Vec<Component>; 2];

/// What a component consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Expanded from its key.
    Expanded,
    /// All zero.
    Zero,
    /// The rest, sent in full.
    Explicit,
}

/// The forms of the three components; `owner` is the owner's index among the computing parties.
fn forms(owner: Option<usize>) -> [Form; 3] {
    let mut forms = [Form::Expanded; 3];
    forms[owner.unwrap_or(2)] = Form::Explicit;
    if let Some(owner) = owner {
        forms[(owner + 2) % 3] = Form::Zero;
    }
    forms
}

fn position(computing: &[Participant; 3], who: Participant) -> Option<usize> {
    computing.iter().position(|&party| party == who)
}

/// An input that is committed to and not yet shared. Kept by the owner between the exchange of
/// statements and [`share`].
pub struct Commitment {
    step: Step,
    owner: Option<usize>,
    statement: InputStatement,
    keys: [Seed; 3],
    explicit: Vec<Component>,
}

impl std::fmt::Debug for Commitment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Commitment({}, {:?})", self.step, self.statement)
    }
}

impl Commitment {
    /// What the gateway signs and sends to all before [`share`].
    #[must_use]
    pub fn statement(&self) -> &InputStatement {
        &self.statement
    }
}

/// Commits `owner` to `columns` of `rows` rows each. `entropy` is fresh and known to the owner alone;
/// the step separates several inputs of one run.
///
/// # Errors
/// `InvalidInput` for a column of another length or with bits past its width.
pub fn commit(
    step: &Step,
    owner: Participant,
    computing: &[Participant; 3],
    rows: usize,
    columns: Vec<ClearColumn>,
    entropy: &Seed,
) -> Result<Commitment> {
    for column in &columns {
        column.check(OPERATOR, column.kind(), rows)?;
    }
    let owner = position(computing, owner);
    let forms = forms(owner);
    let keys = [0, 1, 2].map(|component| {
        let name = step.at("key", component);
        Seed(*blake3::keyed_hash(&entropy.0, name.path().as_bytes()).as_bytes())
    });
    let mut statement = InputStatement {
        rows: rows as u64,
        columns: columns.iter().map(ClearColumn::kind).collect(),
        hashes: [[0; 32]; 3],
    };
    let mut explicit: Vec<Component> = columns
        .into_iter()
        .map(ClearColumn::into_component)
        .collect();
    for component in 0..3 {
        if forms[component] == Form::Expanded {
            let expanded = expand(&keys[component], step, &statement, rows);
            for (rest, part) in explicit.iter_mut().zip(&expanded) {
                rest.sub(part);
            }
            statement.hashes[component] = hash(&keys[component], &statement, &expanded);
        }
    }
    for component in 0..3 {
        match forms[component] {
            Form::Expanded => {}
            Form::Zero => {
                statement.hashes[component] =
                    hash(&keys[component], &statement, &zeros(&statement, rows));
            }
            Form::Explicit => {
                statement.hashes[component] = hash(&keys[component], &statement, &explicit);
            }
        }
    }
    Ok(Commitment {
        step: step.clone(),
        owner,
        statement,
        keys,
        explicit,
    })
}

/// Shares a committed input of this computing party; gives its own share of the columns.
///
/// # Errors
/// Those of the link; `InvalidInput` when the commitment is another participant's.
pub fn share_own(ctx: &mut Context, commitment: Commitment) -> Result<Vec<Column>> {
    let computing = ctx.participants();
    let held = share_components(ctx.link(), &computing, commitment)?;
    columns(held.unwrap_or_default())
}

/// Shares a committed input of a participant that does not compute.
///
/// # Errors
/// Those of the link; `InvalidInput` when the commitment is another participant's.
pub fn share(
    link: &mut dyn Link,
    computing: &[Participant; 3],
    commitment: Commitment,
) -> Result<()> {
    share_components(link, computing, commitment).map(|_| ())
}

/// Receives this party's share of `owner`'s columns and checks it against the owner's statement. The
/// caller has compared rows and shapes of the statement with its plan.
///
/// # Errors
/// `PeerMisbehaved` with `Equivocation` when the shares are not those of the statement; those of the
/// link.
pub fn receive(
    ctx: &mut Context,
    step: &Step,
    owner: Participant,
    statement: &InputStatement,
) -> Result<Vec<Column>> {
    let computing = ctx.participants();
    columns(receive_components(
        ctx.link(),
        &computing,
        step,
        owner,
        statement,
    )?)
}

fn columns([first, second]: Held) -> Result<Vec<Column>> {
    first
        .into_iter()
        .zip(second)
        .map(|(first, second)| first.into_column(second))
        .collect()
}

/// Sends the shares of a committed input. Returns the owner's own components when it computes.
///
/// # Errors
/// Those of the link; `InvalidInput` when the link is not the owner's.
fn share_components(
    link: &mut dyn Link,
    computing: &[Participant; 3],
    commitment: Commitment,
) -> Result<Option<Held>> {
    let Commitment {
        step,
        owner,
        statement,
        keys,
        explicit,
    } = commitment;
    if position(computing, link.me()) != owner {
        return Err(Error::InvalidInput {
            operator: OPERATOR,
            what: "a commitment of another participant".to_owned(),
        });
    }
    let forms = forms(owner);
    for (index, &party) in computing.iter().enumerate() {
        if Some(index) == owner {
            continue;
        }
        let mut both = [keys[index].0, keys[(index + 1) % 3].0].concat();
        let sent = link.send(party, &step.narrow("keys"), &both);
        both.zeroize();
        sent?;
        for component in [index, (index + 1) % 3] {
            if forms[component] == Form::Explicit {
                for (number, column) in explicit.iter().enumerate() {
                    column.send(link, party, &step.at("column", number))?;
                }
            }
        }
    }
    let Some(owner) = owner else {
        return Ok(None);
    };
    let rows = rows_of(&statement)?;
    let second = expand(&keys[(owner + 1) % 3], &step, &statement, rows);
    Ok(Some([explicit, second]))
}

/// Receives and checks this party's two components of `owner`'s input.
///
/// # Errors
/// `PeerMisbehaved` with `Equivocation` when a component is not what the owner stated; those of the
/// link; `InvalidInput` when this participant does not compute or is the owner.
fn receive_components(
    link: &mut dyn Link,
    computing: &[Participant; 3],
    step: &Step,
    owner: Participant,
    statement: &InputStatement,
) -> Result<Held> {
    let me = position(computing, link.me()).filter(|_| owner != link.me());
    let me = me.ok_or_else(|| Error::InvalidInput {
        operator: OPERATOR,
        what: format!("participant {} does not receive this input", link.me()),
    })?;
    let rows = rows_of(statement)?;
    for kind in &statement.columns {
        kind.check(OPERATOR)?;
    }
    let forms = forms(position(computing, owner));
    let mut both = [0; 64];
    link.recv_into(owner, &step.narrow("keys"), &mut both)?;
    let mut held = [Vec::new(), Vec::new()];
    for (place, columns) in held.iter_mut().enumerate() {
        let component = (me + place) % 3;
        let mut key = Seed([0; 32]);
        key.0.copy_from_slice(&both[32 * place..32 * (place + 1)]);
        *columns = match forms[component] {
            Form::Expanded => expand(&key, step, statement, rows),
            Form::Zero => zeros(statement, rows),
            Form::Explicit => statement
                .columns
                .iter()
                .enumerate()
                .map(|(number, &kind)| {
                    Component::receive(kind, rows, link, owner, &step.at("column", number))
                })
                .collect::<Result<_>>()?,
        };
        if hash(&key, statement, columns) != statement.hashes[component] {
            return Err(Error::PeerMisbehaved {
                peer: owner,
                step: step.clone(),
                what: Misbehaviour::Equivocation("share component"),
            });
        }
    }
    both.zeroize();
    Ok(held)
}

fn rows_of(statement: &InputStatement) -> Result<usize> {
    usize::try_from(statement.rows)
        .ok()
        .filter(|&rows| rows < u32::MAX as usize)
        .ok_or_else(|| Error::InvalidInput {
            operator: OPERATOR,
            what: format!("{} rows", statement.rows),
        })
}

/// The component that a key stands for.
fn expand(key: &Seed, step: &Step, statement: &InputStatement, rows: usize) -> Vec<Component> {
    (0..)
        .zip(&statement.columns)
        .map(|(number, &kind)| {
            let name = step.at("expand", number);
            let hash = blake3::keyed_hash(&key.0, name.path().as_bytes());
            let mut short = [0; 16];
            short.copy_from_slice(&hash.as_bytes()[..16]);
            let column = Component::random(kind, rows, &mut Stream::new(&short));
            short.zeroize();
            column
        })
        .collect()
}

fn zeros(statement: &InputStatement, rows: usize) -> Vec<Component> {
    statement
        .columns
        .iter()
        .map(|&kind| Component::zeros(kind, rows))
        .collect()
}

/// Hash of a component: salt (from its key), shape, columns as on the wire. The salt hides a short
/// component from who does not hold it.
fn hash(key: &Seed, statement: &InputStatement, columns: &[Component]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("veilgate-mpc input component v1");
    let salt = blake3::keyed_hash(&key.0, b"input component salt");
    hasher.update(salt.as_bytes());
    hasher.update(&statement.shape());
    for column in columns {
        hasher.update(column.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
