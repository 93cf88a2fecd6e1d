//! No final share without a durable record: the journal, and the receipt that only it gives out.

use crate::error::Result;

/// What a gateway writes down before its part of a release may leave. Public values only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseEntry {
    /// The run.
    pub run: [u8; 32],
    /// The digest of the plan that was run.
    pub plan_digest: [u8; 32],
    /// [`crate::joint::Execution::transcript`] of this party.
    pub transcript: [u8; 32],
}

/// A durable, append-only record of releases. The gateway implements it with its ledger.
pub trait ReleaseJournal {
    /// Makes the entry durable, and debits what the release costs. Returns only once both survive a
    /// crash; gives the number of the record.
    ///
    /// # Errors
    /// Whatever keeps the record from being durable; nothing is then released.
    fn record(&mut self, entry: &ReleaseEntry) -> Result<u64>;
}

/// Proof, within this process, that a release was recorded. Made in one place: [`Self::obtain`].
#[derive(Debug)]
pub struct ReleaseReceipt {
    transcript: [u8; 32],
    record: u64,
}

impl ReleaseReceipt {
    /// Records the release and returns the receipt.
    ///
    /// # Errors
    /// The journal's.
    pub fn obtain(journal: &mut dyn ReleaseJournal, entry: &ReleaseEntry) -> Result<Self> {
        let record = journal.record(entry)?;
        Ok(Self {
            transcript: entry.transcript,
            record,
        })
    }

    /// The number of the record in the journal.
    #[must_use]
    pub fn record(&self) -> u64 {
        self.record
    }

    /// What was recorded as having been exchanged.
    pub(super) fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }
}
