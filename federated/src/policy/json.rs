//! The canonical JSON of a policy: fields in one order, no white space. Peers plan with it, and
//! its hash is the policy's version.

use super::{Leakage, Level, Policy, Rule, Use};
use crate::error::{Code, Error, Result};
use crate::schema::Department;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyJson {
    department: Department,
    computing: Vec<[Department; 3]>,
    levels: Vec<LevelJson>,
    rules: Vec<RuleJson>,
    #[serde(default, skip_serializing_if = "zero")]
    min_rows: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelJson {
    table: String,
    column: String,
    level: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleJson {
    name: String,
    table: String,
    column: String,
    #[serde(rename = "use")]
    permits: String,
    k: u32,
    leakage: String,
    recipients: Vec<Department>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    purposes: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    case: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<u32>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn zero(value: &u64) -> bool {
    *value == 0
}

pub(super) fn render(policy: &Policy) -> String {
    let form = PolicyJson {
        department: policy.department.clone(),
        computing: policy.computing.clone(),
        levels: policy
            .levels
            .iter()
            .map(|(table, column, level)| LevelJson {
                table: table.clone(),
                column: column.clone(),
                level: level.name().to_owned(),
            })
            .collect(),
        rules: policy
            .rules
            .iter()
            .map(|rule| RuleJson {
                name: rule.name.clone(),
                table: rule.table.clone(),
                column: rule.column.clone(),
                permits: rule.permits.to_string(),
                k: rule.k,
                leakage: rule.leakage.name().to_owned(),
                recipients: rule.recipients.clone(),
                purposes: rule.purposes.clone(),
                case: rule.case,
                weights: rule.weights,
            })
            .collect(),
        min_rows: policy.min_rows,
    };
    // cannot fail: plain structs of strings and numbers always serialise.
    serde_json::to_string(&form).unwrap_or_default()
}

pub(super) fn version(policy: &Policy) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"veilgate policy v1\0");
    hash.update(render(policy).as_bytes());
    hash.finalize().into()
}

pub(super) fn parse(text: &str) -> Result<Policy> {
    let wrong =
        |message: String| Error::new(Code::BadConfig, format!("a policy in JSON: {message}"));
    let form: PolicyJson = serde_json::from_str(text)
        .map_err(|error| wrong(format!("line {}, column {}", error.line(), error.column())))?;
    let mut policy = Policy {
        department: form.department,
        version: [0; 32],
        computing: form.computing,
        rules: Vec::with_capacity(form.rules.len()),
        levels: Vec::with_capacity(form.levels.len()),
        min_rows: form.min_rows,
    };
    for entry in form.levels {
        let level = Level::from_name(&entry.level).map_err(wrong)?;
        policy.levels.push((entry.table, entry.column, level));
    }
    for rule in form.rules {
        let permits = Use::from_name(&rule.permits)
            .ok_or_else(|| wrong(format!("rule {}: unknown use", rule.name)))?;
        let leakage = match rule.leakage.as_str() {
            "none" => Leakage::None,
            "sizes" => Leakage::Sizes,
            _ => return Err(wrong(format!("rule {}: unknown leakage", rule.name))),
        };
        policy.rules.push(Rule {
            name: rule.name,
            table: rule.table,
            column: rule.column,
            permits,
            k: rule.k,
            leakage,
            recipients: rule.recipients,
            purposes: rule.purposes,
            case: rule.case,
            weights: rule.weights,
        });
    }
    policy.version = version(&policy);
    Ok(policy)
}
