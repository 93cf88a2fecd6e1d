//! Whether this department's thresholds stand before everything that a program releases of its tables.
//!
//! Every scan of a table with a privacy unit is followed through this department's own fragments, which it
//! plans for itself, and through the program to its guards. Of other departments nothing is believed: that
//! no row is repeated follows from groups, and from what joins check inside MPC. A guard has to count the
//! units of every scan, with k at least, and where numbers of one group are over different rows, every atom
//! of them. What has passed a guard may be released, and so may be whatever is computed of it.
//!
//! `docs/protocols/guards.md` has the rules of each operator.

mod cells;
mod follow;
mod groups;
mod together;
mod values;

use super::Me;
use super::rules::Needed;
use crate::catalog::Published;
use crate::error::{Denial, Result};
use crate::local::lineage::{FragmentUnits, NotAllowed, fragment_units};
use crate::plan::program::{Program, Types, Variable};
use crate::plan::{JointPlan, PartyIndex};
use follow::Follow;
use std::collections::BTreeMap;

/// Checks the guards of a program for one department.
///
/// # Errors
/// `PeerMisbehaved` for a program that is not valid.
pub(super) fn check(
    plan: &JointPlan,
    program: &Program,
    index: PartyIndex,
    me: &Me<'_>,
    catalog: &Published,
    needed: &BTreeMap<String, Needed>,
    denials: &mut Vec<Denial>,
) -> Result<()> {
    if needed.values().all(|of| of.k <= 1) {
        return Ok(());
    }
    let types = program.check(&plan.fragments)?;
    let mut own: BTreeMap<usize, FragmentUnits> = BTreeMap::new();
    for (position, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != index {
            continue;
        }
        match fragment_units(&fragment.sql, catalog) {
            Ok(units) => {
                own.insert(position, units);
            }
            Err(not) => {
                denials.push(unknown(me, position, &not));
                return Ok(());
            }
        }
    }
    let thresholds = Thresholds {
        plan,
        program,
        types: &types,
        index,
        needed,
        own: &own,
    };
    let mut found = Follow::new(&thresholds).program();
    found.dedup();
    denials.extend(found.into_iter().map(|of| thresholds.denial(me, &of)));
    Ok(())
}

/// What a walk needs to know.
struct Thresholds<'a> {
    plan: &'a JointPlan,
    program: &'a Program,
    types: &'a Types,
    index: PartyIndex,
    needed: &'a BTreeMap<String, Needed>,
    own: &'a BTreeMap<usize, FragmentUnits>,
}

/// A scan of one of this department's tables: fragment, and number within it.
type Scan = (usize, usize);

/// What is not guarded, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unguarded {
    scan: Scan,
    what: String,
    instead: &'static str,
}

impl Thresholds<'_> {
    /// The table of a scan.
    fn table(&self, scan: Scan) -> &str {
        self.own
            .get(&scan.0)
            .and_then(|of| of.tables.get(scan.1))
            .map_or("", String::as_str)
    }

    /// The least number of units behind what is released of a scan.
    fn k(&self, scan: Scan) -> u32 {
        self.needed.get(self.table(scan)).map_or(1, |of| of.k)
    }

    /// The own fragment, and the column of it, that a variable is.
    fn own_column(&self, variable: Variable) -> Option<(usize, &FragmentUnits, usize)> {
        let mut from = 0;
        for (position, fragment) in self.plan.fragments.iter().enumerate() {
            let count = fragment.columns.len();
            let at = (variable.0 as usize).checked_sub(from)?;
            if at < count {
                let units = self.own.get(&position)?;
                return Some((position, units, at));
            }
            from += count;
        }
        None
    }

    /// The variables of an own fragment's columns.
    fn variable(&self, fragment: usize, column: usize) -> Variable {
        Program::variable_of(&self.plan.fragments, fragment, column)
    }

    fn denial(&self, me: &Me<'_>, of: &Unguarded) -> Denial {
        let table = self.table(of.scan);
        let rule = self.needed.get(table).map_or("", |of| of.rule.as_str());
        Denial {
            department: me.department.to_owned(),
            rule: rule.to_owned(),
            column: String::new(),
            asked: format!("{} of {}.{table}", of.what, me.department),
            alternative: format!(
                "{} with k = {} over the privacy units of {}.{table}",
                of.instead,
                self.k(of.scan),
                me.department
            ),
        }
    }
}

fn unknown(me: &Me<'_>, position: usize, not: &NotAllowed) -> Denial {
    Denial {
        department: me.department.to_owned(),
        rule: "fragments: units that can be followed".to_owned(),
        column: not.column.clone().unwrap_or_default(),
        asked: format!("fragment {position} with {}", not.construct),
        alternative: "what docs/plan-check.md says of thresholds".to_owned(),
    }
}
