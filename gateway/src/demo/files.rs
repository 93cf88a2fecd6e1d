//! The catalogues and policies that come with the generated tables.

use super::people::{DISTRICTS, District};
use super::tables::{self, Sizes};
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};

/// Writes `catalog.toml` and `policy.toml` of every department below `dir`.
///
/// # Errors
/// `BadRequest` when a file cannot be written.
pub(super) fn write(dir: &Path, sizes: &Sizes) -> Result<()> {
    let files = [
        ("civil/catalog.toml", civil_catalog(sizes)),
        ("civil/policy.toml", CIVIL_POLICY.to_owned()),
        ("tax/catalog.toml", tax_catalog(sizes)),
        ("tax/policy.toml", TAX_POLICY.to_owned()),
        ("social/catalog.toml", social_catalog(sizes)),
        ("social/policy.toml", SOCIAL_POLICY.to_owned()),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| {
            Error::new(
                Code::BadRequest,
                format!("cannot write {}: {}", path.display(), error.kind()),
            )
        })?;
    }
    Ok(())
}

/// A public bound: the least number of two significant digits that is not below `count`.
pub(super) fn bound(count: u64) -> u64 {
    let mut unit = 1;
    while count / unit >= 100 {
        unit *= 10;
    }
    count.div_ceil(unit).max(1) * unit
}

const PERSON_ID: &str = r#"
[[tables.columns]]
name = "person_id"
type = "utf8"
nullable = false
description = "Identity number, 18 characters; spelled with spaces and small x by some clerks."
canonical = ["nfc", "no_spaces", "upper", "id18"]
max_bytes = 18
"#;

fn civil_catalog(sizes: &Sizes) -> String {
    let districts: Vec<String> = DISTRICTS
        .iter()
        .map(|District { name, .. }| format!("\"{name}\""))
        .collect();
    format!(
        r#"# Civil affairs: what other departments may know about its tables. No data is in here.
version = 1
department = "civil"

[[tables]]
name = "residents"
source = "residents.parquet"
description = "Registered adult residents, one row a person."
key = ["person_id"]
unit = "person_id"
max_rows = {rows}
{PERSON_ID}max_distinct = {rows}

[[tables.columns]]
name = "name"
type = "utf8"
nullable = false
max_bytes = 24

[[tables.columns]]
name = "birth_date"
type = "date"
nullable = false

[[tables.columns]]
name = "district"
type = "utf8"
nullable = false
description = "Where the household is registered."
codes = [{codes}]
max_distinct = {districts}

[[tables.columns]]
name = "household_id"
type = "int64"
nullable = false
max_distinct = {households}
max_abs = 99999999

[[tables.columns]]
name = "low_income"
type = "bool"
nullable = false
description = "The household receives low-income support."
"#,
        rows = bound(sizes.residents),
        households = bound(sizes.households),
        codes = districts.join(", "),
        districts = DISTRICTS.len(),
    )
}

fn tax_catalog(sizes: &Sizes) -> String {
    format!(
        r#"# Tax: what other departments may know about its tables. No data is in here.
version = 1
department = "tax"

[[tables]]
name = "income"
source = "income.parquet"
description = "Taxable income, one row for each person, year and employer."
unit = "person_id"
max_rows = {rows}
{PERSON_ID}max_distinct = {people}

[[tables.columns]]
name = "year"
type = "int64"
nullable = false
max_distinct = {years}
max_abs = 2100

[[tables.columns]]
name = "employer_id"
type = "int64"
description = "NULL for those who employ themselves."
max_distinct = {employers}
max_abs = 99999999

[[tables.columns]]
name = "taxable_income"
type = "decimal(14,2)"
nullable = false
description = "Yuan."
# In cents.
max_abs = {max_income}
"#,
        rows = bound(sizes.incomes),
        people = bound(sizes.taxpayers),
        years = tables::YEARS.len(),
        employers = bound(sizes.employers),
        max_income = tables::MAX_INCOME * 100,
    )
}

fn social_catalog(sizes: &Sizes) -> String {
    format!(
        r#"# Social security: what other departments may know about its tables. No data is in here.
version = 1
department = "social"

[[tables]]
name = "pension"
source = "pension.csv"
description = "Pension insurance, one row a person."
key = ["person_id"]
unit = "person_id"
max_rows = {rows}
{PERSON_ID}max_distinct = {rows}

[[tables.columns]]
name = "status"
type = "utf8"
nullable = false
codes = ["active", "ended", "suspended"]
max_distinct = 3

[[tables.columns]]
name = "monthly_pension"
type = "decimal(10,2)"
description = "Yuan; NULL when it has ended."
# In cents.
max_abs = {max_pension}

[[tables.columns]]
name = "insured_since"
type = "date"
description = "NULL where the paper file has no date."
"#,
        rows = bound(sizes.pensions),
        max_pension = tables::MAX_PENSION * 100,
    )
}

const CIVIL_POLICY: &str = r#"# Civil affairs: what its columns may be used for. What is not allowed here is refused.
version = 1
department = "civil"

# Three gateways that may compute together with our data. The data bureau is neutral: it has no
# data of its own, and is trusted not to collude with any of us.
computing = [
  ["civil", "tax", "bureau"],
  ["civil", "social", "bureau"],
  ["civil", "tax", "social"],
  ["tax", "social", "bureau"],
]

# Every column is L2, ordinary personal data: it serves duties inside government, in aggregates.
# k = 10: nothing is released that fewer than 10 people stand behind.

[tables.residents.columns.person_id]
level = "L2"
allow = [
  { use = "join_key", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

# `name` has no rule: it serves no joint query at all.
[tables.residents.columns.name]
level = "L2"
allow = []

[tables.residents.columns.birth_date]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

[tables.residents.columns.district]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "sizes" },
  { use = "group_key", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

[tables.residents.columns.household_id]
level = "L2"
allow = [
  { use = "join_key", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

[tables.residents.columns.low_income]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "sizes" },
  { use = "group_key", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]
"#;

const TAX_POLICY: &str = r#"# Tax: what its columns may be used for. What is not allowed here is refused.
version = 1
department = "tax"

computing = [
  ["civil", "tax", "bureau"],
  ["tax", "social", "bureau"],
  ["civil", "tax", "social"],
  ["civil", "social", "bureau"],
]

# Every column is L2: ordinary personal data, and trade secrets outside the core.
# k = 10: nothing is released that fewer than 10 people stand behind.

[tables.income.columns.person_id]
level = "L2"
allow = [
  { use = "join_key", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

[tables.income.columns.year]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "sizes" },
  { use = "group_key", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

# An employer's pay roll is a trade secret: no groups by employer.
[tables.income.columns.employer_id]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]

# Never `output`: no single income leaves. Orders and conditions are over released aggregates.
[tables.income.columns.taxable_income]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "sizes" },
  { use = "aggregate", functions = ["count", "sum", "avg"], k = 10, leakage = "sizes" },
  { use = "having", k = 10, leakage = "sizes" },
  { use = "sort_key", k = 10, leakage = "sizes" },
]
"#;

const SOCIAL_POLICY: &str = r#"# Social security: what its columns may be used for. What is not allowed here is refused.
version = 1
department = "social"

computing = [
  ["civil", "social", "bureau"],
  ["tax", "social", "bureau"],
  ["civil", "tax", "social"],
  ["civil", "tax", "bureau"],
]

# Every column is L2: ordinary personal data.
# k = 10: nothing is released that fewer than 10 people stand behind.
# leakage = "none": not even the number of rows becomes known, only the public bounds of our
# catalogue. Joins with our tables therefore run obliviously.

[tables.pension.columns.person_id]
level = "L2"
allow = [
  { use = "join_key", k = 10, leakage = "none" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "none" },
  { use = "having", k = 10, leakage = "none" },
  { use = "sort_key", k = 10, leakage = "none" },
]

[tables.pension.columns.status]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "none" },
  { use = "group_key", k = 10, leakage = "none" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "none" },
  { use = "having", k = 10, leakage = "none" },
  { use = "sort_key", k = 10, leakage = "none" },
]

# Never `output`: no single pension leaves.
[tables.pension.columns.monthly_pension]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "none" },
  { use = "aggregate", functions = ["count", "sum", "avg"], k = 10, leakage = "none" },
  { use = "having", k = 10, leakage = "none" },
  { use = "sort_key", k = 10, leakage = "none" },
]

[tables.pension.columns.insured_since]
level = "L2"
allow = [
  { use = "filter", k = 10, leakage = "none" },
  { use = "aggregate", functions = ["count"], k = 10, leakage = "none" },
  { use = "having", k = 10, leakage = "none" },
  { use = "sort_key", k = 10, leakage = "none" },
]
"#;
