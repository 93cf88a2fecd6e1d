//! The newest leaves of a ledger, for whoever looks at it while it grows.

use super::leaf;
use super::verify::Opened;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use veilgate_federated::error::Result;

/// Entries of one bundle.
const BUNDLE: u64 = 256;

/// A leaf with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recent {
    /// From 0.
    pub(crate) index: u64,
    fields: BTreeMap<String, Value>,
}

impl Recent {
    /// A field as text; empty where the leaf has none.
    pub(crate) fn text(&self, field: &str) -> String {
        match self.fields.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

/// The newest leaves of the ledger at `path`, at least so many if there are, in their order.
///
/// # Errors
/// `LedgerCorrupt` with the file.
pub(crate) fn recent(path: &Path, most: u64) -> Result<Vec<Recent>> {
    let opened = Opened::new(path, None)?;
    let size = opened.head.size;
    let first = size.saturating_sub(most) / BUNDLE;
    let mut leaves = Vec::new();
    for number in first..size.div_ceil(BUNDLE) {
        let bundle = opened.folder.read_bundle(number, size)?;
        for (entry, index) in bundle.iter().zip(number * BUNDLE..) {
            if let Some(fields) = leaf::read_entry(entry) {
                leaves.push(Recent { index, fields });
            }
        }
    }
    Ok(leaves)
}
