//! A small federation with published catalogues and rules, and plans as text.

use std::fmt::Write as _;
use veilgate_federated::catalog::{Canonical, Column, Published, Table, Unit};
use veilgate_federated::plan::{
    Encoding, Engine, JointPlan, Operator, Predicate, PublicSize, ReleasedSource,
};
use veilgate_federated::planner::{Federation, Member, Planned};
use veilgate_federated::policy::{AggregateFunction, Leakage, Level, Policy, Rule, Use};
use veilgate_federated::schema::ScalarType;

pub(crate) fn engine() -> Engine {
    Engine {
        version: "test".to_owned(),
        config_hash: [7; 32],
    }
}

pub(crate) fn column(name: &str, data_type: ScalarType) -> Column {
    Column {
        name: name.to_owned(),
        data_type,
        nullable: true,
        description: String::new(),
        canonical: Vec::new(),
        max_bytes: 0,
        codes: Vec::new(),
        max_distinct: 0,
        max_abs: 0,
        max_repeats: 0,
        fixed_point: false,
    }
}

pub(crate) fn decimal(precision: u8, scale: u8) -> ScalarType {
    ScalarType::Decimal { precision, scale }
}

fn id(name: &str) -> Column {
    Column {
        nullable: false,
        canonical: vec![
            Canonical::Nfc,
            Canonical::Trim,
            Canonical::Upper,
            Canonical::Id18,
        ],
        max_bytes: 24,
        ..column(name, ScalarType::Utf8)
    }
}

fn coded(name: &str, codes: &[&str]) -> Column {
    Column {
        codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        max_bytes: 16,
        ..column(name, ScalarType::Utf8)
    }
}

fn table(name: &str, key: &[&str], unit: Unit, max_rows: u64, columns: Vec<Column>) -> Table {
    Table {
        name: name.to_owned(),
        description: String::new(),
        key: key.iter().map(|column| (*column).to_owned()).collect(),
        unit,
        max_rows,
        columns,
    }
}

fn unit(column: &str) -> Unit {
    Unit::Column(column.to_owned())
}

/// Every use of every column but raw output, with this k and leakage.
pub(crate) fn rules(catalog: &Published, k: u32, leakage: Leakage) -> Vec<Rule> {
    let mut rules = Vec::new();
    for table in &catalog.tables {
        for permits in Use::ALL
            .into_iter()
            .filter(|permits| *permits != Use::Output)
        {
            rules.push(Rule {
                name: format!("{}.{}.*/{permits}", catalog.department, table.name),
                table: table.name.clone(),
                column: "*".to_owned(),
                permits,
                k,
                leakage,
                recipients: Vec::new(),
                purposes: Vec::new(),
                case: false,
                weights: None,
            });
        }
    }
    rules
}

pub(crate) fn member(
    catalog: Published,
    k: u32,
    leakage: Leakage,
    computing: &[[&str; 3]],
) -> Member {
    let levels = catalog
        .tables
        .iter()
        .map(|table| (table.name.clone(), "*".to_owned(), Level::L1))
        .collect();
    let policy = Policy::new(
        catalog.department.clone(),
        computing.iter().map(|set| set.map(str::to_owned)).collect(),
        rules(&catalog, k, leakage),
        levels,
    )
    .unwrap();
    Member {
        department: catalog.department.clone(),
        catalog: Some(catalog),
        policy: Some(policy),
    }
}

pub(crate) const SETS: [[&str; 3]; 4] = [
    ["bureau", "civil", "tax"],
    ["bureau", "civil", "social"],
    ["bureau", "social", "tax"],
    ["civil", "social", "tax"],
];

/// civil, social, tax with data and the neutral bureau; `leakage` is what all rules accept.
pub(crate) fn federation(leakage: Leakage) -> Federation {
    let civil = Published {
        department: "civil".to_owned(),
        tables: vec![
            table(
                "events",
                &[],
                Unit::Row,
                50_000,
                vec![
                    id("person_id"),
                    column("kind", ScalarType::Int64),
                    column("day", ScalarType::Date),
                ],
            ),
            table(
                "residents",
                &["person_id"],
                unit("person_id"),
                120_000,
                vec![
                    id("person_id"),
                    Column {
                        max_bytes: 64,
                        ..column("name", ScalarType::Utf8)
                    },
                    column("birth_date", ScalarType::Date),
                    coded("district", &["east", "north", "south", "west"]),
                    Column {
                        max_distinct: 50_000,
                        ..column("household_id", ScalarType::Int64)
                    },
                    column("low_income", ScalarType::Bool),
                    column("threshold", decimal(14, 2)),
                ],
            ),
        ],
    };
    let social = Published {
        department: "social".to_owned(),
        tables: vec![table(
            "pension",
            &["person_id"],
            unit("person_id"),
            40_000,
            vec![
                id("person_id"),
                coded("status", &["active", "ended"]),
                column("monthly_pension", decimal(10, 2)),
                column("insured_since", ScalarType::Date),
                column("household_id", ScalarType::Int64),
                Column {
                    max_abs: 1_000,
                    ..column("points", ScalarType::Int64)
                },
            ],
        )],
    };
    let tax = Published {
        department: "tax".to_owned(),
        tables: vec![
            table(
                "income",
                &[],
                unit("person_id"),
                300_000,
                vec![
                    id("person_id"),
                    column("year", ScalarType::Int64),
                    Column {
                        max_distinct: 2_000,
                        ..column("employer_id", ScalarType::Int64)
                    },
                    column("taxable_income", decimal(14, 2)),
                    Column {
                        max_bytes: 40,
                        ..column("remark", ScalarType::Utf8)
                    },
                ],
            ),
            table(
                "rates",
                &["year"],
                Unit::None,
                100,
                vec![
                    column("year", ScalarType::Int64),
                    column("rate", decimal(5, 4)),
                ],
            ),
        ],
    };
    Federation {
        members: vec![
            Member {
                department: "bureau".to_owned(),
                catalog: None,
                policy: None,
            },
            member(civil, 10, leakage, &SETS),
            member(social, 3, leakage, &SETS),
            member(tax, 10, leakage, &SETS),
        ],
        tables: vec![],
    }
}

/// Allows raw output of a column.
pub(crate) fn allow_output(
    federation: &mut Federation,
    department: &str,
    table: &str,
    column: &str,
) {
    for member in &mut federation.members {
        if member.department != department {
            continue;
        }
        let policy = member.policy.take().unwrap();
        let mut rules = policy.rules.clone();
        rules.push(Rule {
            name: format!("{department}.{table}.{column}/output"),
            table: table.to_owned(),
            column: column.to_owned(),
            permits: Use::Output,
            k: 1,
            leakage: Leakage::Sizes,
            recipients: Vec::new(),
            purposes: Vec::new(),
            case: false,
            weights: None,
        });
        member.policy =
            Some(Policy::new(policy.department, policy.computing, rules, policy.levels).unwrap());
    }
}

/// Rules of one column and use get this k.
pub(crate) fn raise_k(
    federation: &mut Federation,
    department: &str,
    column: &str,
    permits: &Use,
    k: u32,
) {
    for member in &mut federation.members {
        let Some(policy) = member
            .policy
            .as_mut()
            .filter(|_| member.department == department)
        else {
            continue;
        };
        let mut rule = policy
            .rules
            .iter()
            .find(|rule| rule.permits == *permits)
            .unwrap()
            .clone();
        rule.column = column.to_owned();
        rule.k = k;
        policy.rules.push(rule);
    }
}

pub(crate) const SUM: Use = Use::Aggregate(AggregateFunction::Sum);

/// A plan in a compact text that shows everything.
pub(crate) fn text(planned: &Planned) -> String {
    let plan = &planned.plan;
    let mut out = String::new();
    let name = |party: usize| plan.parties[party].department.as_str();
    let parties: Vec<String> = plan
        .parties
        .iter()
        .map(|party| {
            let mut roles = String::new();
            if party.catalog_version.is_some() {
                roles.push_str(" data");
            }
            if let Some(role) = party.computing {
                let _ = write!(roles, " P{role}");
            }
            if party.result {
                roles.push_str(" result");
            }
            format!("{}:{roles}", party.department)
        })
        .collect();
    let _ = writeln!(out, "parties  {}", parties.join(" | "));
    for (index, fragment) in plan.fragments.iter().enumerate() {
        let size = match fragment.size {
            PublicSize::Bucket => "bucket".to_owned(),
            PublicSize::Declared(rows) => format!("declared {rows}"),
        };
        let _ = writeln!(
            out,
            "f{index} {}  {size}, about {} rows{}\n   {}",
            name(fragment.owner),
            fragment.estimated_rows,
            if fragment.unique_key { ", unique" } else { "" },
            fragment.sql
        );
        for (position, column) in fragment.columns.iter().enumerate() {
            let _ = writeln!(
                out,
                "   c{position} {}{} {}  [{}]",
                column.data_type,
                if column.nullable { "?" } else { "" },
                encoding(&column.encoding),
                column.label
            );
        }
    }
    for (index, operator) in plan.operators.iter().enumerate() {
        let _ = write!(out, "o{index} ");
        let _ = match operator {
            Operator::Program(_) => writeln!(out, "program, see tests/golden/tpch.txt"),
            Operator::Input { fragment } => writeln!(out, "input f{fragment}"),
            Operator::Align {
                fragments,
                class,
                neutral,
                mask_holders,
            } => {
                let holders: Vec<&str> = mask_holders.iter().map(|holder| name(*holder)).collect();
                writeln!(
                    out,
                    "align {fragments:?} class {class} neutral {} masks {}",
                    name(*neutral),
                    holders.join(", ")
                )
            }
            Operator::Join {
                left,
                right,
                left_key,
                right_key,
            } => writeln!(
                out,
                "join o{left} o{right} on f{}.c{} = f{}.c{}",
                left_key.fragment, left_key.column, right_key.fragment, right_key.column
            ),
            Operator::Filter { input, predicate } => {
                writeln!(out, "filter o{input} {}", condition(predicate))
            }
            Operator::Aggregate {
                input,
                keys,
                cells,
                units,
            } => {
                let at = |at: &veilgate_federated::plan::ColumnRef| {
                    format!("f{}.c{}", at.fragment, at.column)
                };
                let keys: Vec<String> = keys.iter().map(at).collect();
                let _ = writeln!(out, "aggregate o{input} by [{}]", keys.join(", "));
                for (index, unit) in units.iter().enumerate() {
                    let _ = writeln!(
                        out,
                        "   u{index} {} {} where {} k={}",
                        name(unit.owner),
                        unit.unit.as_ref().map_or("rows".to_owned(), at),
                        unit.argument.as_ref().map_or("true".to_owned(), at),
                        unit.k
                    );
                }
                for (index, cell) in cells.iter().enumerate() {
                    let weights: Vec<String> = cell.weights.iter().map(at).collect();
                    let _ = writeln!(
                        out,
                        "   x{index} sum {} * [{}] where {} guards {:?}",
                        cell.sum.as_ref().map_or("1".to_owned(), at),
                        weights.join(", "),
                        cell.argument.as_ref().map_or("true".to_owned(), at),
                        cell.guards
                    );
                }
                Ok(())
            }
        };
    }
    let release = &plan.release;
    let columns: Vec<String> = release
        .columns
        .iter()
        .map(|column| {
            let source = match column.source {
                ReleasedSource::Opened(column) => format!("column {column}"),
                ReleasedSource::Key(key) => format!("key {key}"),
                ReleasedSource::Cell(cell) => format!("x{cell}"),
                ReleasedSource::Average { sum, count } => format!("x{sum}/x{count}"),
            };
            let null = if column.nullable { "?" } else { "" };
            format!("{source} {}{null}", column.data_type)
        })
        .collect();
    let _ = writeln!(
        out,
        "release  [{}] guards {:?} groups {:?}\n   {}",
        columns.join(", "),
        release.group_guards,
        release.public_groups,
        release.sql
    );
    let output: Vec<String> = release
        .output
        .iter()
        .map(|column| {
            let null = if column.nullable { "?" } else { "" };
            format!("{} {}{null}", column.name, column.data_type)
        })
        .collect();
    let _ = writeln!(out, "output   {}", output.join(" | "));
    if let Some(strategy) = planned.strategy {
        let _ = writeln!(out, "strategy {strategy}");
    }
    for (strategy, why) in &planned.rejected {
        let _ = writeln!(out, "not {strategy}: {why}");
    }
    let _ = writeln!(
        out,
        "cost     {} bytes, {} rounds",
        planned.costs.bytes(),
        planned.costs.rounds()
    );
    out
}

fn encoding(encoding: &Encoding) -> String {
    match encoding {
        Encoding::KeyTag { class, bits } => format!("key tag {class}/{bits}"),
        Encoding::UnitTag { bits } => format!("unit tag /{bits}"),
        Encoding::Ring64 => "ring64".to_owned(),
        Encoding::Ring128 => "ring128".to_owned(),
        Encoding::Bits(bits) => format!("bits {bits}"),
        Encoding::Codes(codes) => format!("codes {}", codes.len()),
        Encoding::Text { max_bytes } => format!("text {max_bytes}"),
    }
}

fn condition(predicate: &Predicate) -> String {
    let list = |items: &[Predicate], word: &str| {
        let items: Vec<String> = items.iter().map(condition).collect();
        format!("({})", items.join(word))
    };
    match predicate {
        Predicate::Compare {
            comparator,
            left,
            right,
        } => format!(
            "f{}.c{} {comparator:?} f{}.c{}",
            left.fragment, left.column, right.fragment, right.column
        ),
        Predicate::Flag(at) => format!("f{}.c{}", at.fragment, at.column),
        Predicate::All(items) => list(items, " and "),
        Predicate::Any(items) => list(items, " or "),
    }
}

/// Checks what holds for every plan.
pub(crate) fn check_form(plan: &JointPlan) {
    for fragment in &plan.fragments {
        assert!(!fragment.columns.is_empty());
        assert!(!fragment.sql.contains("SELECT *"));
    }
}
