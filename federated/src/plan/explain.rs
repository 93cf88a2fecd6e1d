//! `EXPLAIN`: what would leave whom, in which form, who would see it, and which rule lets it.
//!
//! Plain text of at most 100 columns, the same for the same plan. It is made from the plan alone,
//! so a literal of the query shows only inside the SQL of the fragments, to the analyst who wrote
//! it; nothing of it belongs into a log.

mod layout;
mod program;

use super::{
    Encoding, Fragment, JointPlan, Line, Operator, Predicate, PublicSize, ReleasedSource, UnitCount,
};
use crate::planner::Planned;
pub use layout::bytes;
use layout::{count, paragraph, table};
use std::fmt::Write as _;

/// Explains a plan. `rules` are what the departments' own checks applied, as (department, rule,
/// what for); empty when nobody was asked.
#[must_use]
pub fn explain(planned: &Planned, rules: &[(String, String, String)]) -> String {
    let plan = &planned.plan;
    let mut out = String::new();
    let home = plan
        .result_party()
        .map_or("nobody", |party| name(plan, party));
    let _ = writeln!(out, "JOINT PLAN for {home}, {}", plan.engine.version);
    out.push_str(&table(
        &["department", "role", "what it learns"],
        &[12, 38, 46],
        &roles(plan),
    ));

    let _ = writeln!(out, "\nWHAT LEAVES");
    out.push_str(&table(
        &[
            "department",
            "what",
            "form",
            "who sees it",
            "rows",
            "bytes",
            "leaks",
        ],
        &[11, 26, 20, 13, 9, 8, 5],
        &leaving(planned),
    ));
    if let Some(seats) = plan.computing_parties() {
        let names: Vec<&str> = seats.iter().map(|seat| name(plan, *seat)).collect();
        let text = format!(
            "held by {} (P0, P1, P2); no one of them learns a value",
            names.join(", ")
        );
        out.push_str(&paragraph("shares: ", &text));
    }

    let _ = writeln!(out, "\nRULES");
    if rules.is_empty() {
        let _ = writeln!(
            out,
            "  not asked for: the departments check when the plan is proposed"
        );
    } else {
        let rows: Vec<Vec<String>> = rules
            .iter()
            .map(|(department, rule, what)| vec![department.clone(), rule.clone(), what.clone()])
            .collect();
        out.push_str(&table(&["department", "rule", "for"], &[12, 52, 32], &rows));
    }

    let _ = writeln!(out, "\nFRAGMENTS, each in the clear inside its department");
    for (index, fragment) in plan.fragments.iter().enumerate() {
        let owner = name(plan, fragment.owner);
        out.push_str(&paragraph(&format!("f{index} {owner}: "), &fragment.sql));
    }

    let _ = writeln!(out, "\nJOINT OPERATORS on shares");
    for (index, operator) in plan.operators.iter().enumerate() {
        // Relations of a program are its fragments and its own operators.
        if matches!(plan.operators.last(), Some(Operator::Program(_))) {
            break;
        }
        let text = describe(plan, operator);
        let cost = planned
            .costs
            .operators
            .get(index)
            .map_or_else(String::new, |of| {
                format!(
                    " [{} rows, {}, {} rounds]",
                    count(of.rows),
                    bytes(of.bytes),
                    count(of.rounds)
                )
            });
        out.push_str(&paragraph(&format!("o{index} "), &format!("{text}{cost}")));
    }
    if let Some(Operator::Program(of)) = plan.operators.last() {
        for (index, text) in program::operators(plan, of).into_iter().enumerate() {
            let cost = planned.costs.program.get(index);
            let cost = cost.map_or_else(String::new, |of| {
                format!(
                    " [{} rows, {}, {} rounds]",
                    count(of.rows),
                    bytes(of.bytes),
                    count(of.rounds)
                )
            });
            out.push_str(&paragraph(&format!("p{index} "), &format!("{text}{cost}")));
        }
        let _ = writeln!(
            out,
            "  about {} and {} rounds in all",
            bytes(planned.costs.bytes()),
            count(planned.costs.rounds())
        );
    }
    if let Some(strategy) = planned.strategy {
        let _ = writeln!(
            out,
            "  strategy: {strategy}, about {} and {} rounds in all",
            bytes(planned.costs.bytes()),
            count(planned.costs.rounds())
        );
    }
    if plan.line != Line::default() {
        let _ = writeln!(
            out,
            "  line: {} us round trip, {} a second each way, {} a pair",
            count(u64::from(plan.line.round_trip_micros)),
            bytes(plan.line.bytes_per_second),
            match plan.line.lanes {
                1 => "1 connection".to_owned(),
                lanes => format!("{lanes} connections"),
            }
        );
    }
    for (strategy, why) in &planned.rejected {
        out.push_str(&paragraph(&format!("not {strategy}: "), why));
    }
    guards(plan, &mut out);
    released(plan, &mut out);
    out
}

fn name(plan: &JointPlan, party: usize) -> &str {
    plan.parties
        .get(party)
        .map_or("?", |party| party.department.as_str())
}

fn roles(plan: &JointPlan) -> Vec<Vec<String>> {
    let neutral = plan.operators.iter().find_map(|operator| match operator {
        Operator::Align { neutral, .. } => Some(*neutral),
        _ => None,
    });
    let is_program = matches!(plan.operators.last(), Some(Operator::Program(_)));
    plan.parties
        .iter()
        .enumerate()
        .map(|(index, party)| {
            let mut roles = Vec::new();
            if plan.fragments.iter().any(|of| of.owner == index) {
                roles.push("data".to_owned());
            }
            if let Some(seat) = party.computing {
                roles.push(format!("computing party P{seat}"));
            }
            if party.result {
                roles.push("receives the result".to_owned());
            }
            let learns = match (party.result, neutral == Some(index)) {
                (true, _) if is_program => "the released rows",
                (true, _) => "the released groups, after every guard",
                (false, true) => "padded sizes, the noisy number of matches",
                (false, false) if leaks_sizes(plan) => "padded sizes",
                (false, false) => "declared sizes only",
            };
            vec![
                party.department.clone(),
                roles.join(", "),
                learns.to_owned(),
            ]
        })
        .collect()
}

fn leaks_sizes(plan: &JointPlan) -> bool {
    plan.fragments
        .iter()
        .any(|of| of.size == PublicSize::Bucket)
}

/// One line for each column that leaves, and one for each result.
fn leaving(planned: &Planned) -> Vec<Vec<String>> {
    let plan = &planned.plan;
    let aligned = |index: usize| {
        plan.operators.iter().find_map(|operator| match operator {
            Operator::Align {
                fragments, neutral, ..
            } if fragments.contains(&index) => Some(name(plan, *neutral).to_owned()),
            _ => None,
        })
    };
    let mut rows = Vec::new();
    for (index, fragment) in plan.fragments.iter().enumerate() {
        let neutral = aligned(index);
        let leakage = match (fragment.size, neutral.is_some()) {
            (PublicSize::Declared(_), false) => "none",
            _ => "sizes",
        };
        let cost = planned.costs.fragments.get(index);
        let form_of_size = match fragment.size {
            PublicSize::Bucket => "padded to a bucket",
            PublicSize::Declared(_) => "declared maximum",
        };
        rows.push(vec![
            name(plan, fragment.owner).to_owned(),
            "number of rows".to_owned(),
            form_of_size.to_owned(),
            "every party".to_owned(),
            cost.map_or_else(|| count(fragment.estimated_rows), |of| count(of.rows)),
            cost.map_or_else(String::new, |of| bytes(of.bytes)),
            leakage.to_owned(),
        ]);
        for column in &fragment.columns {
            let tag = matches!(column.encoding, Encoding::KeyTag { .. });
            let (who, leaks) = match &neutral {
                Some(neutral) if tag => (neutral.as_str(), leakage),
                _ => ("shares", "none"),
            };
            rows.push(vec![
                String::new(),
                column.label.clone(),
                form(&column.encoding),
                who.to_owned(),
                String::new(),
                String::new(),
                leaks.to_owned(),
            ]);
        }
    }
    let home = plan
        .result_party()
        .map_or("nobody", |party| name(plan, party));
    rows.push(vec![
        "all".to_owned(),
        plan.release
            .output
            .iter()
            .map(|of| of.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
        match plan.operators.last() {
            Some(Operator::Program(_)) => "result".to_owned(),
            _ => "guarded aggregate".to_owned(),
        },
        home.to_owned(),
        String::new(),
        String::new(),
        String::new(),
    ]);
    rows
}

fn form(encoding: &Encoding) -> String {
    match encoding {
        Encoding::KeyTag { bits, .. } => format!("{bits}-bit keyed tag"),
        Encoding::UnitTag { bits } => format!("{bits}-bit unit tag"),
        Encoding::Ring64 => "64-bit number".to_owned(),
        Encoding::Ring128 => "128-bit number".to_owned(),
        Encoding::Bits(1) => "1 bit".to_owned(),
        Encoding::Bits(bits) => format!("{bits} bits"),
        Encoding::Codes(values) => format!("one of {} codes", values.len()),
        Encoding::Text { max_bytes } => format!("{max_bytes} bytes of text"),
    }
}

fn label(plan: &JointPlan, at: super::ColumnRef) -> String {
    plan.fragments
        .get(at.fragment)
        .and_then(|of: &Fragment| Some((of.owner, of.columns.get(at.column)?)))
        .map_or_else(
            || "?".to_owned(),
            |(owner, column)| format!("{}: {}", name(plan, owner), column.label),
        )
}

fn labels(plan: &JointPlan, columns: &[super::ColumnRef]) -> String {
    let all: Vec<String> = columns.iter().map(|at| label(plan, *at)).collect();
    all.join(", ")
}

fn describe(plan: &JointPlan, operator: &Operator) -> String {
    match operator {
        Operator::Input { fragment } => format!("input of f{fragment}"),
        Operator::Align {
            fragments, neutral, ..
        } => {
            let inputs: Vec<String> = fragments.iter().map(|of| format!("f{of}")).collect();
            format!(
                "aligned join of {} through {}, which matches tags",
                inputs.join(", "),
                name(plan, *neutral)
            )
        }
        Operator::Join {
            left,
            right,
            left_key,
            right_key,
        } => format!(
            "oblivious join of o{left} and o{right} on {} = {}",
            label(plan, *left_key),
            label(plan, *right_key)
        ),
        Operator::Filter {
            input,
            predicate: condition,
        } => format!("filter of o{input} where {}", predicate(plan, condition)),
        Operator::Program(program) => format!("program of {} operators", program.operators.len()),
        Operator::Aggregate {
            input, keys, cells, ..
        } => format!(
            "aggregate of o{input}: {} {} for {}",
            cells.len(),
            if cells.len() == 1 {
                "number"
            } else {
                "numbers"
            },
            if keys.is_empty() {
                "the whole".to_owned()
            } else {
                format!("each ({})", labels(plan, keys))
            }
        ),
    }
}

fn predicate(plan: &JointPlan, condition: &Predicate) -> String {
    use super::Comparator as C;
    let list = |items: &[Predicate], word: &str| {
        let all: Vec<String> = items.iter().map(|item| predicate(plan, item)).collect();
        format!("({})", all.join(word))
    };
    match condition {
        Predicate::Compare {
            comparator,
            left,
            right,
        } => {
            let sign = match comparator {
                C::Equal => "=",
                C::NotEqual => "<>",
                C::Less => "<",
                C::LessEqual => "<=",
                C::Greater => ">",
                C::GreaterEqual => ">=",
            };
            format!("{} {sign} {}", label(plan, *left), label(plan, *right))
        }
        Predicate::Flag(column) => label(plan, *column),
        Predicate::All(items) => list(items, " AND "),
        Predicate::Any(items) => list(items, " OR "),
    }
}

fn guards(plan: &JointPlan, out: &mut String) {
    if let Some(Operator::Program(_)) = plan.operators.last() {
        let _ = writeln!(out, "\nGUARDS, applied to shares before anything is opened");
        let text = "none: every department must allow k = 1 for each use";
        out.push_str(&paragraph("thresholds: ", text));
        return;
    }
    let Some(Operator::Aggregate {
        cells, units, keys, ..
    }) = plan.operators.get(plan.release.input)
    else {
        return;
    };
    let _ = writeln!(out, "\nGUARDS, applied to shares before anything is opened");
    let text = |unit: &UnitCount| {
        let what = match unit.unit {
            Some(at) => format!("distinct {}", label(plan, at)),
            None => "rows, each another privacy unit".to_owned(),
        };
        let over = unit.argument.map_or_else(String::new, |at| {
            format!(" where {} is not NULL", label(plan, at))
        });
        format!(
            "at least k = {} of {}: {what}{over}",
            unit.k,
            name(plan, unit.owner)
        )
    };
    for guard in &plan.release.group_guards {
        if let Some(unit) = units.get(*guard) {
            let whole = if keys.is_empty() { "result" } else { "group" };
            out.push_str(&paragraph(&format!("each {whole}: "), &text(unit)));
        }
    }
    for (index, unit) in units.iter().enumerate() {
        if plan.release.group_guards.contains(&index) {
            continue;
        }
        let guarded = cells.iter().filter(|of| of.guards.contains(&index)).count();
        let what = if guarded == 1 { "1 number" } else { "numbers" };
        out.push_str(&paragraph(&format!("{what}: "), &text(unit)));
    }
    if units.is_empty() {
        let _ = writeln!(out, "  none: the tables are public reference data");
    }
    let withheld = match plan.release.public_groups {
        Some(groups) => format!(
            "groups below k are withheld; their number is told, out of {} possible ones",
            count(groups)
        ),
        None if keys.is_empty() => "numbers below k are NULL".to_owned(),
        None => "groups below k are withheld, and their number is not told".to_owned(),
    };
    out.push_str(&paragraph("withheld: ", &withheld));
}

fn released(plan: &JointPlan, out: &mut String) {
    let _ = writeln!(out, "\nRELEASE");
    let made = match plan.operators.last() {
        Some(Operator::Program(of)) => program::opened(plan, of),
        _ => Vec::new(),
    };
    let columns: Vec<String> = plan
        .release
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let what = match column.source {
                ReleasedSource::Key(key) => format!("key {key}"),
                ReleasedSource::Cell(cell) => format!("number {cell}"),
                ReleasedSource::Opened(column) => made.get(column).cloned().unwrap_or_default(),
                ReleasedSource::Average { sum, count } => {
                    format!("number {sum} / number {count}, both opened")
                }
            };
            format!("r{index} {what}")
        })
        .collect();
    out.push_str(&paragraph("opened: ", &columns.join("; ")));
    out.push_str(&paragraph("then: ", &plan.release.sql));
    let output: Vec<String> = plan
        .release
        .output
        .iter()
        .map(|of| {
            let null = if of.nullable { "" } else { " not null" };
            format!("{} {}{null}", of.name, of.data_type)
        })
        .collect();
    out.push_str(&paragraph("result: ", &output.join(", ")));
}
