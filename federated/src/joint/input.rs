//! The first half of a run: sizes, keys, statements; then every input is shared or aligned.

use super::blame::{Blamed, Failure};
use super::keys::{self, Purpose};
use super::layout::{Form, kind, normal};
use super::prepare::{Source, column_kind, pad, sort, validity};
use super::relation::Relation;
use super::run::Run;
use super::seeds::Seeds;
use super::{Inputs, Progress, StatementExchange, participant, size};
use crate::error::{Code, Error, Result};
use crate::plan::{ColumnRef, Encoding, FragmentIndex, Operator, PublicSize};
use std::collections::BTreeMap;
use veilgate_mpc::context::Context;
use veilgate_mpc::input::{Commitment, InputStatement, commit, receive, share, share_own};
use veilgate_mpc::net::{Link, Step};
use veilgate_mpc::prss::Seed;
use veilgate_mpc::psi::{
    AlignKind, AlignPlan, Dummies, OwnerPlan, OwnerSecrets, OwnerTable, align_input_owner,
    align_neutral, align_owner,
};
use veilgate_mpc::spill::Memory;
use veilgate_mpc::table::{Column, SharedTable};

/// Epsilon 1/2, delta 2^-39: the neutral party's view of the number of matches.
fn dummies() -> Dummies {
    Dummies::new(1, 2, 40).unwrap_or(Dummies::NONE)
}

/// The longest statement, and the longest signature.
const MAX_STATEMENT: usize = 1 << 20;
const MAX_SIGNATURE: usize = 4096;

/// The alignment that takes a fragment in.
struct Alignment {
    operator: usize,
    class: u32,
    owners: usize,
}

/// What a party holds when all that is said before shares are sent has been said.
pub(super) struct Prepared {
    /// The public size of each fragment.
    sizes: Vec<usize>,
    /// Mine, to be shared.
    commitments: BTreeMap<FragmentIndex, Commitment>,
    /// Everybody's, as stated.
    statements: BTreeMap<FragmentIndex, InputStatement>,
    /// Mine, to be aligned.
    tables: BTreeMap<FragmentIndex, OwnerTable>,
    /// By operator.
    secrets: BTreeMap<usize, OwnerSecrets>,
    /// Known to me alone; the neutral party orders matches by it.
    private: Seed,
}

impl Run<'_> {
    /// Sizes, keys and statements, in this order.
    pub(super) fn prepare(
        &self,
        link: &mut dyn Link,
        seeds: &Seeds,
        inputs: Inputs,
        statements: &mut dyn StatementExchange,
        progress: &Progress,
    ) -> Result<Prepared> {
        let fragments: BTreeMap<_, _> = inputs.fragments.into_iter().collect();
        for (index, fragment) in self.plan.fragments.iter().enumerate() {
            if (fragment.owner == self.me) != fragments.contains_key(&index) {
                return Err(Error::new(
                    Code::Internal,
                    "the inputs are not those of my fragments",
                ));
            }
        }
        progress("sizes", 0);
        let rows = |index: &FragmentIndex| fragments.get(index).map_or(0, |f| f.rows as u64);
        let sizes = self
            .sizes(link, rows, inputs.min_rows)
            .blamed(&self.blame)?;
        self.fits(&sizes, inputs.memory.as_ref())?;
        progress("keys", 0);
        let keys = keys::agree(self, link, seeds).blamed(&self.blame)?;
        let mut prepared = Prepared {
            sizes,
            commitments: BTreeMap::new(),
            statements: BTreeMap::new(),
            tables: BTreeMap::new(),
            secrets: BTreeMap::new(),
            private: Seed(*seeds.own("private")?),
        };
        for (index, encoded) in &fragments {
            let source = Source {
                plan: self.plan,
                fragment: *index,
                encoded,
                keys: &keys,
                seeds,
            };
            // The padded size: how many rows there really are is nobody else's business.
            progress("encode", prepared.sizes[*index] as u64);
            self.make(&source, seeds, &keys, &mut prepared)?;
        }
        drop(fragments);
        progress("statements", 0);
        self.exchange(link, statements, &mut prepared)?;
        Ok(prepared)
    }

    /// Refuses a run that would not fit this party's memory, before any is allocated.
    fn fits(&self, sizes: &[usize], memory: Option<&Memory>) -> Result<()> {
        let Some(memory) = memory else { return Ok(()) };
        let due = super::memory::due(self.plan, &self.layout, sizes)?;
        if due <= memory.budget() {
            return Ok(());
        }
        Err(Error::new(
            Code::LimitExceeded,
            format!(
                "the shares of this run need about {due} bytes of memory, {} are allowed",
                memory.budget()
            ),
        ))
    }

    /// Every owner tells every participant the public size of each of its fragments.
    fn sizes(
        &self,
        link: &mut dyn Link,
        rows: impl Fn(&FragmentIndex) -> u64,
        min_rows: u64,
    ) -> std::result::Result<Vec<usize>, Failure> {
        let mut sizes = vec![];
        for (index, fragment) in self.plan.fragments.iter().enumerate() {
            let headroom = match self.alignment_of(index) {
                Some(alignment) => dummies().headroom(alignment.owners) as u64,
                None => 0,
            };
            let step = Step::new("sizes").at("fragment", index);
            let size = match fragment.size {
                PublicSize::Declared(most) if fragment.owner == self.me => {
                    size::padded(rows(&index), 0, fragment.size)?;
                    most + headroom
                }
                PublicSize::Declared(most) => most + headroom,
                PublicSize::Bucket if fragment.owner == self.me => {
                    let rows = rows(&index).max(min_rows);
                    let size = size::padded(rows, headroom, fragment.size)?;
                    for other in self.others() {
                        link.send(participant(other), &step, &size.to_le_bytes())?;
                    }
                    size
                }
                PublicSize::Bucket => {
                    let mut bytes = [0; 8];
                    link.recv_into(participant(fragment.owner), &step, &mut bytes)?;
                    let size = u64::from_le_bytes(bytes);
                    if !size::is_bucket(size) || size < headroom {
                        return Err(self
                            .misbehaved(fragment.owner, "it announced a size that is no bucket")
                            .into());
                    }
                    size
                }
            };
            sizes.push(usize::try_from(size).map_err(|_| {
                Error::new(Code::LimitExceeded, "a fragment of more rows than memory")
            })?);
        }
        Ok(sizes)
    }

    /// My columns, committed to or ready to be aligned.
    fn make(
        &self,
        source: &Source<'_>,
        seeds: &Seeds,
        keys: &keys::CommonKeys,
        prepared: &mut Prepared,
    ) -> Result<()> {
        let index = source.fragment;
        let places = self.layout.of_fragment(index);
        let mut columns = places
            .iter()
            .map(|place| source.column(*place))
            .collect::<Result<Vec<_>>>()?;
        if let Some(Alignment {
            operator, class, ..
        }) = self.alignment_of(index)
        {
            // Tags of their own for every alignment: the neutral party cannot compare two of them.
            let scope = format!("align/{operator}/");
            let tags = source.tags(self.key_column(index, class)?, &scope)?;
            prepared.tables.insert(index, OwnerTable { tags, columns });
            let common = keys.get(&Purpose::Dummies(operator));
            let common = common.ok_or_else(|| Error::new(Code::Internal, "no dummies' key"))?;
            let pairwise = (0..self.plan.parties.len())
                .filter(|peer| *peer != self.me && self.plan.takes_part(*peer))
                .map(|peer| {
                    let seed = seeds.pair(peer, &format!("masks/{operator}"))?;
                    Ok((participant(peer), Seed(*seed)))
                })
                .collect::<Result<_>>()?;
            let secrets = OwnerSecrets {
                common: Seed(**common),
                private: Seed(*seeds.own(&format!("order/{operator}"))?),
                pairwise,
            };
            prepared.secrets.insert(operator, secrets);
            return Ok(());
        }
        let size = prepared.sizes[index];
        let key = self
            .sort_key(index)
            .and_then(|key| places.iter().position(|place| *place == (key, Form::Value)));
        if let Some(key) = key {
            sort(&mut columns, key);
        }
        for (at, column) in columns.iter_mut().enumerate() {
            pad(column, size, Some(at) == key);
        }
        columns.push(validity(source.encoded.rows, size));
        let entropy = Seed(*seeds.own(&format!("inputs/{index}"))?);
        let me = participant(self.me);
        let commitment = commit(
            &input_step(index),
            me,
            &self.computing,
            size,
            columns,
            &entropy,
        );
        prepared
            .commitments
            .insert(index, commitment.blamed(&self.blame)?);
        Ok(())
    }

    /// Every owner's signed statement reaches every participant before any share is sent.
    fn exchange(
        &self,
        link: &mut dyn Link,
        statements: &mut dyn StatementExchange,
        prepared: &mut Prepared,
    ) -> Result<()> {
        for (index, fragment) in self.plan.fragments.iter().enumerate() {
            if self.alignment_of(index).is_some() {
                continue;
            }
            let step = Step::new("statements").at("fragment", index);
            let signature_step = step.narrow("signature");
            if fragment.owner == self.me {
                let commitment = prepared.commitments.get(&index);
                let statement = commitment.map(Commitment::statement).ok_or_else(|| {
                    Error::new(Code::Internal, "an input that was not committed to")
                })?;
                let bytes = statement.encode();
                let signature = statements.sign(&bytes)?;
                for other in self.others() {
                    let other = participant(other);
                    link.send(other, &step, &bytes).blamed(&self.blame)?;
                    link.send(other, &signature_step, &signature)
                        .blamed(&self.blame)?;
                }
                prepared.statements.insert(index, statement.clone());
                continue;
            }
            let owner = participant(fragment.owner);
            let bytes = link
                .recv_up_to(owner, &step, MAX_STATEMENT)
                .blamed(&self.blame)?;
            let signature = link
                .recv_up_to(owner, &signature_step, MAX_SIGNATURE)
                .blamed(&self.blame)?;
            let department = &self.plan.parties[fragment.owner].department;
            statements
                .accept(fragment.owner, &bytes, &signature)
                .map_err(|error| error.at(department.clone()))?;
            let statement = InputStatement::decode(&bytes)
                .map_err(|_| self.misbehaved(fragment.owner, "its statement does not decode"))?;
            let mut due = self.kinds(index)?;
            due.push(veilgate_mpc::input::ColumnKind::Bits { width: 1 });
            if statement.columns != due || statement.rows != prepared.sizes[index] as u64 {
                return Err(self.misbehaved(
                    fragment.owner,
                    "its statement is of other columns or rows than the plan and its size",
                ));
            }
            prepared.statements.insert(index, statement);
        }
        Ok(())
    }

    /// The alignment that takes this fragment in.
    fn alignment_of(&self, fragment: FragmentIndex) -> Option<Alignment> {
        let mut operators = self.plan.operators.iter().enumerate();
        operators.find_map(|(index, operator)| match operator {
            Operator::Align {
                fragments, class, ..
            } if fragments.contains(&fragment) => Some(Alignment {
                operator: index,
                class: *class,
                owners: fragments.len(),
            }),
            _ => None,
        })
    }

    /// The key by which the owner of a fragment sorts its rows, at its first column.
    fn sort_key(&self, fragment: FragmentIndex) -> Option<ColumnRef> {
        let key = self.plan.sorted_by(fragment)?;
        Some(normal(self.plan, key))
    }

    /// Where the key of a class begins in a fragment.
    fn key_column(&self, fragment: FragmentIndex, class: u32) -> Result<usize> {
        let columns = self.plan.fragments.get(fragment).map(|f| &f.columns);
        let position = columns.and_then(|columns| {
            columns.iter().position(
                |column| matches!(column.encoding, Encoding::KeyTag { class: c, .. } if c == class),
            )
        });
        position.ok_or_else(|| Error::new(Code::Internal, "an aligned fragment without its key"))
    }

    fn kinds(&self, fragment: FragmentIndex) -> Result<Vec<veilgate_mpc::input::ColumnKind>> {
        let places = self.layout.of_fragment(fragment).iter();
        places
            .map(|place| Ok(column_kind(kind(self.plan, *place)?)))
            .collect()
    }

    /// The public description of an alignment.
    fn align_plan(
        &self,
        prepared: &Prepared,
        fragments: &[FragmentIndex],
        neutral: usize,
        mask_holders: &[usize],
    ) -> Result<AlignPlan> {
        let owners = fragments
            .iter()
            .zip(mask_holders)
            .map(|(fragment, holder)| {
                Ok(OwnerPlan {
                    participant: participant(self.plan.fragments[*fragment].owner),
                    mask_holder: participant(*holder),
                    padded_rows: prepared.sizes[*fragment],
                    columns: self.kinds(*fragment)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(AlignPlan {
            owners,
            neutral: participant(neutral),
            dummies: dummies(),
            kind: AlignKind::Inner,
        })
    }
}

impl Run<'_> {
    /// An operator that takes fragments in, at an owner that does not compute.
    pub(super) fn give_operator(
        &self,
        link: &mut dyn Link,
        prepared: &mut Prepared,
        index: usize,
        operator: &Operator,
    ) -> std::result::Result<(), Failure> {
        match operator {
            Operator::Input { fragment } => {
                if let Some(commitment) = prepared.commitments.remove(fragment) {
                    share(link, &self.computing, commitment)?;
                }
            }
            Operator::Align {
                fragments,
                neutral,
                mask_holders,
                ..
            } => {
                let plan = self.align_plan(prepared, fragments, *neutral, mask_holders)?;
                let mine = fragments.iter().find_map(|f| prepared.tables.remove(f));
                let secrets = prepared.secrets.remove(&index);
                if let (Some(table), Some(secrets)) = (mine, secrets) {
                    let step = align_step(index);
                    align_input_owner(link, &step, &plan, &self.computing, table, &secrets)
                        .map_err(|error| self.own_duplicate(error))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// An alignment finds duplicate keys of my own table, before anything is sent.
    fn own_duplicate(&self, error: veilgate_mpc::Error) -> Failure {
        match error {
            veilgate_mpc::Error::DuplicateKey => {
                let me = self.plan.parties[self.me].department.clone();
                Failure::Own(self.blame.error(error).at(me))
            }
            other => Failure::Mpc(other),
        }
    }

    /// An operator that takes fragments in, at a computing party; none for any other operator.
    pub(super) fn enter(
        &self,
        ctx: &mut Context,
        prepared: &mut Prepared,
        index: usize,
        operator: &Operator,
    ) -> std::result::Result<Option<Relation>, Failure> {
        match operator {
            Operator::Input { fragment } => {
                let owner = participant(self.plan.fragments[*fragment].owner);
                let columns = match prepared.commitments.remove(fragment) {
                    Some(commitment) => share_own(ctx, commitment)?,
                    None => {
                        let statement = prepared.statements.get(fragment);
                        let statement = statement.ok_or_else(|| {
                            Error::new(Code::Internal, "an input without its statement")
                        })?;
                        receive(ctx, &input_step(*fragment), owner, statement)?
                    }
                };
                let mut columns = columns;
                let Some(Column::Bits(valid)) = columns.pop() else {
                    return Err(Error::new(Code::Internal, "an input without validity").into());
                };
                let places = self.layout.of_fragment(*fragment).iter().copied();
                let table = SharedTable { columns, valid };
                let relation = Relation::new(table, places);
                Ok(Some(relation.sorted_by(self.sort_key(*fragment))))
            }
            Operator::Align {
                fragments,
                neutral,
                mask_holders,
                ..
            } => {
                let plan = self.align_plan(prepared, fragments, *neutral, mask_holders)?;
                let step = align_step(index);
                let mine = fragments.iter().find_map(|f| prepared.tables.remove(f));
                let table = match (mine, prepared.secrets.remove(&index)) {
                    (Some(table), Some(secrets)) => align_owner(ctx, &step, &plan, table, &secrets)
                        .map_err(|error| self.own_duplicate(error))?,
                    _ => align_neutral(ctx, &step, &plan, &prepared.private)?,
                };
                let places = fragments.iter().flat_map(|f| self.layout.of_fragment(*f));
                Ok(Some(Relation::new(table, places.copied())))
            }
            _ => Ok(None),
        }
    }
}

fn align_step(operator: usize) -> Step {
    Step::new("align").at("operator", operator)
}

fn input_step(fragment: FragmentIndex) -> Step {
    Step::new("input").at("fragment", fragment)
}
