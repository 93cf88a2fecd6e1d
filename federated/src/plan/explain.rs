//! `EXPLAIN`: what would leave whom, in which form, who would see it, and which rule lets it.
//!
//! Plain text of at most 100 columns, the same for the same plan, and the same as rows. It is made from the
//! plan alone, so a literal of the query shows only inside the SQL of the fragments, to the analyst who
//! wrote it; nothing of it belongs into a log.

mod entries;
mod layout;
mod program;

use crate::planner::Planned;
pub use entries::{Entry, Section, entries};
pub use layout::bytes;
use layout::{count, paragraph, table};
use std::fmt::Write as _;

/// Explains a plan. `rules` are what the departments' own checks applied, as (department, rule,
/// what for); empty when nobody was asked.
#[must_use]
pub fn explain(planned: &Planned, rules: &[(String, String, String)]) -> String {
    let plan = &planned.plan;
    let all = entries(planned, rules);
    let of = |section: Section| all.iter().filter(move |entry| entry.section == section);
    let mut out = String::new();
    let home = plan
        .result_party()
        .map_or("nobody", |party| entries::name(plan, party));
    let _ = writeln!(out, "JOINT PLAN for {home}, {}", plan.engine.version);
    let rows: Vec<Vec<String>> = of(Section::Party)
        .map(|of| vec![of.department.clone(), of.what.clone(), of.form.clone()])
        .collect();
    out.push_str(&table(
        &["department", "role", "what it learns"],
        &[12, 38, 46],
        &rows,
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
        &leaving(of(Section::Leaves)),
    ));
    if let Some(seats) = plan.computing_parties() {
        let names: Vec<&str> = seats
            .iter()
            .map(|seat| entries::name(plan, *seat))
            .collect();
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
        let rows: Vec<Vec<String>> = of(Section::Rule)
            .map(|of| vec![of.department.clone(), of.what.clone(), of.form.clone()])
            .collect();
        out.push_str(&table(&["department", "rule", "for"], &[12, 52, 32], &rows));
    }

    let _ = writeln!(out, "\nFRAGMENTS, each in the clear inside its department");
    for of in of(Section::Fragment) {
        out.push_str(&paragraph(
            &format!("{} {}: ", of.item, of.department),
            &of.what,
        ));
    }

    let _ = writeln!(out, "\nJOINT OPERATORS on shares");
    for of in of(Section::Operator) {
        let cost = match (of.rows, of.bytes, of.rounds) {
            (Some(rows), Some(sent), Some(rounds)) => format!(
                " [{} rows, {}, {} rounds]",
                count(rows),
                bytes(sent),
                count(rounds)
            ),
            _ => String::new(),
        };
        out.push_str(&paragraph(
            &format!("{} ", of.item),
            &format!("{}{cost}", of.what),
        ));
    }
    for of in of(Section::Plan) {
        out.push_str(&whole(of));
    }

    if of(Section::Guard).next().is_some() {
        let _ = writeln!(out, "\nGUARDS, applied to shares before anything is opened");
    }
    for of in of(Section::Guard) {
        out.push_str(&paragraph(&format!("{}: ", of.what), &of.form));
    }
    let _ = writeln!(out, "\nRELEASE");
    for (form, separator) in [("opened", "; "), ("then", ""), ("result", ", ")] {
        let items: Vec<String> = of(Section::Release)
            .filter(|of| of.form == form)
            .map(|of| match of.item.is_empty() {
                true => of.what.clone(),
                false => format!("{} {}", of.item, of.what),
            })
            .collect();
        out.push_str(&paragraph(&format!("{form}: "), &items.join(separator)));
    }
    out
}

/// What leaves; a department is named once for each fragment.
fn leaving<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Vec<String>> {
    entries
        .map(|of| {
            let first = of.rows.is_some() || of.department == "all";
            vec![
                if first {
                    of.department.clone()
                } else {
                    String::new()
                },
                of.what.clone(),
                of.form.clone(),
                of.who.clone(),
                of.rows.map_or_else(String::new, count),
                of.bytes.map_or_else(String::new, bytes),
                of.leaks.clone(),
            ]
        })
        .collect()
}

/// The plan as a whole, the line, and what was not taken.
fn whole(of: &Entry) -> String {
    match (of.bytes, of.rounds) {
        (Some(sent), Some(rounds)) => {
            let strategy = match of.form.as_str() {
                "" => String::new(),
                strategy => format!("strategy: {strategy}, "),
            };
            format!(
                "  {strategy}about {} and {} rounds in all\n",
                bytes(sent),
                count(rounds)
            )
        }
        _ if of.item == "line" => format!("  line: {}, {}\n", of.what, of.form),
        _ => paragraph(&format!("not {}: ", of.what), &of.form),
    }
}
