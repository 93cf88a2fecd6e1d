//! `EXPLAIN` as rows: one entry for every party, column that leaves, rule, fragment, operator, guard and
//! column of the release. The text is made of them.

use super::{count, program};
use crate::plan::{
    ColumnRef, Encoding, Fragment, JointPlan, Line, Operator, Predicate, PublicSize,
    ReleasedSource, UnitCount,
};
use crate::planner::Planned;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// A gateway: its roles (`what`) and what it learns (`form`).
    Party,
    /// What leaves a department, in which form, and who sees it.
    Leaves,
    /// A rule that a department applied (`what`), and what for (`form`).
    Rule,
    /// SQL that a department runs alone.
    Fragment,
    /// A joint operator.
    Operator,
    /// The whole: strategy, traffic and rounds; the line; strategies that were not taken, and why (`form`).
    Plan,
    /// A threshold (`what`), and what it stands before (`form`).
    Guard,
    /// What is opened and what is done with it.
    Release,
}

impl Section {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Party => "party",
            Self::Leaves => "leaves",
            Self::Rule => "rule",
            Self::Fragment => "fragment",
            Self::Operator => "operator",
            Self::Plan => "plan",
            Self::Guard => "guard",
            Self::Release => "release",
        }
    }
}

/// One row of `EXPLAIN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub section: Section,
    /// Its short name where it has one: `f0`, `p3`, `r1`.
    pub item: String,
    /// The department concerned.
    pub department: String,
    /// What it is.
    pub what: String,
    /// In which form, or what for.
    pub form: String,
    /// Who sees it.
    pub who: String,
    /// Rows, padding included.
    pub rows: Option<u64>,
    /// Bytes of all parties.
    pub bytes: Option<u64>,
    /// Rounds.
    pub rounds: Option<u64>,
    /// The leakage profile that it needs.
    pub leaks: String,
}

impl Entry {
    fn new(section: Section, what: impl Into<String>) -> Self {
        Self {
            section,
            item: String::new(),
            department: String::new(),
            what: what.into(),
            form: String::new(),
            who: String::new(),
            rows: None,
            bytes: None,
            rounds: None,
            leaks: String::new(),
        }
    }
}

/// Explains a plan. `rules` are what the departments' own checks applied, as (department, rule, what for).
#[must_use]
pub fn entries(planned: &Planned, rules: &[(String, String, String)]) -> Vec<Entry> {
    let plan = &planned.plan;
    let mut all = roles(plan);
    all.extend(leaving(planned));
    all.extend(rules.iter().map(|(department, rule, what)| Entry {
        department: department.clone(),
        form: what.clone(),
        ..Entry::new(Section::Rule, rule)
    }));
    all.extend(plan.fragments.iter().enumerate().map(|(index, fragment)| {
        let cost = planned.costs.fragments.get(index);
        Entry {
            item: format!("f{index}"),
            department: name(plan, fragment.owner).to_owned(),
            rows: cost.map(|of| of.rows),
            bytes: cost.map(|of| of.bytes),
            ..Entry::new(Section::Fragment, &fragment.sql)
        }
    }));
    all.extend(operators(planned));
    all.extend(whole(planned));
    all.extend(guards(plan));
    all.extend(released(plan));
    all
}

pub(super) fn name(plan: &JointPlan, party: usize) -> &str {
    plan.parties
        .get(party)
        .map_or("?", |party| party.department.as_str())
}

fn home(plan: &JointPlan) -> &str {
    plan.result_party()
        .map_or("nobody", |party| name(plan, party))
}

fn roles(plan: &JointPlan) -> Vec<Entry> {
    let neutral = plan.operators.iter().find_map(|operator| match operator {
        Operator::Align { neutral, .. } => Some(*neutral),
        _ => None,
    });
    let is_program = matches!(plan.operators.last(), Some(Operator::Program(_)));
    let sizes = plan
        .fragments
        .iter()
        .any(|of| of.size == PublicSize::Bucket);
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
                (false, false) if sizes => "padded sizes",
                (false, false) => "declared sizes only",
            };
            Entry {
                department: party.department.clone(),
                form: learns.to_owned(),
                ..Entry::new(Section::Party, roles.join(", "))
            }
        })
        .collect()
}

/// One entry for the size of each fragment, each column that leaves, and the result.
fn leaving(planned: &Planned) -> Vec<Entry> {
    let plan = &planned.plan;
    let aligned = |index: usize| {
        plan.operators.iter().find_map(|operator| match operator {
            Operator::Align {
                fragments, neutral, ..
            } if fragments.contains(&index) => Some(name(plan, *neutral).to_owned()),
            _ => None,
        })
    };
    let mut all = Vec::new();
    for (index, fragment) in plan.fragments.iter().enumerate() {
        let neutral = aligned(index);
        let leakage = match (fragment.size, neutral.is_some()) {
            (PublicSize::Declared(_), false) => "none",
            _ => "sizes",
        };
        let cost = planned.costs.fragments.get(index);
        let owner = name(plan, fragment.owner);
        all.push(Entry {
            item: format!("f{index}"),
            department: owner.to_owned(),
            form: match fragment.size {
                PublicSize::Bucket => "padded to a bucket".to_owned(),
                PublicSize::Declared(_) => "declared maximum".to_owned(),
            },
            who: "every party".to_owned(),
            rows: Some(cost.map_or(fragment.estimated_rows, |of| of.rows)),
            bytes: cost.map(|of| of.bytes),
            leaks: leakage.to_owned(),
            ..Entry::new(Section::Leaves, "number of rows")
        });
        for column in &fragment.columns {
            let tag = matches!(column.encoding, Encoding::KeyTag { .. });
            let (who, leaks) = match &neutral {
                Some(neutral) if tag => (neutral.as_str(), leakage),
                _ => ("shares", "none"),
            };
            all.push(Entry {
                department: owner.to_owned(),
                form: form(&column.encoding),
                who: who.to_owned(),
                leaks: leaks.to_owned(),
                ..Entry::new(Section::Leaves, &column.label)
            });
        }
    }
    let columns: Vec<&str> = plan
        .release
        .output
        .iter()
        .map(|of| of.name.as_str())
        .collect();
    all.push(Entry {
        department: "all".to_owned(),
        form: match plan.operators.last() {
            Some(Operator::Program(_)) => "result".to_owned(),
            _ => "guarded aggregate".to_owned(),
        },
        who: home(plan).to_owned(),
        ..Entry::new(Section::Leaves, columns.join(", "))
    });
    all
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

fn operators(planned: &Planned) -> Vec<Entry> {
    let plan = &planned.plan;
    // Relations of a program are its fragments and its own operators.
    let (letter, texts, costs) = match plan.operators.last() {
        Some(Operator::Program(of)) => ('p', program::operators(plan, of), &planned.costs.program),
        _ => {
            let all = plan.operators.iter();
            let texts = all.map(|operator| describe(plan, operator)).collect();
            ('o', texts, &planned.costs.operators)
        }
    };
    texts
        .into_iter()
        .enumerate()
        .map(|(index, text)| {
            let cost = costs.get(index);
            Entry {
                item: format!("{letter}{index}"),
                rows: cost.map(|of| of.rows),
                bytes: cost.map(|of| of.bytes),
                rounds: cost.map(|of| of.rounds),
                ..Entry::new(Section::Operator, text)
            }
        })
        .collect()
}

fn whole(planned: &Planned) -> Vec<Entry> {
    let plan = &planned.plan;
    let mut all = Vec::new();
    let is_program = matches!(plan.operators.last(), Some(Operator::Program(_)));
    if is_program || planned.strategy.is_some() {
        all.push(Entry {
            item: "all".to_owned(),
            form: planned
                .strategy
                .map_or_else(String::new, |strategy| strategy.to_string()),
            bytes: Some(planned.costs.bytes()),
            rounds: Some(planned.costs.rounds()),
            ..Entry::new(
                Section::Plan,
                if is_program { "program" } else { "strategy" },
            )
        });
    }
    if plan.line != Line::default() {
        all.push(Entry {
            item: "line".to_owned(),
            form: match plan.line.lanes {
                1 => "1 connection a pair".to_owned(),
                lanes => format!("{lanes} connections a pair"),
            },
            ..Entry::new(
                Section::Plan,
                format!(
                    "{} us round trip, {} a second each way",
                    count(u64::from(plan.line.round_trip_micros)),
                    super::bytes(plan.line.bytes_per_second),
                ),
            )
        });
    }
    all.extend(planned.rejected.iter().map(|(strategy, why)| Entry {
        item: "not".to_owned(),
        form: why.clone(),
        ..Entry::new(Section::Plan, strategy.to_string())
    }));
    all
}

fn label(plan: &JointPlan, at: ColumnRef) -> String {
    plan.fragments
        .get(at.fragment)
        .and_then(|of: &Fragment| Some((of.owner, of.columns.get(at.column)?)))
        .map_or_else(
            || "?".to_owned(),
            |(owner, column)| format!("{}: {}", name(plan, owner), column.label),
        )
}

fn labels(plan: &JointPlan, columns: &[ColumnRef]) -> String {
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
    use crate::plan::Comparator as C;
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

/// Thresholds, and what becomes of what is below.
fn guards(plan: &JointPlan) -> Vec<Entry> {
    let guard = |lead: &str, text: String| Entry {
        form: text,
        ..Entry::new(Section::Guard, lead)
    };
    if let Some(Operator::Program(of)) = plan.operators.last() {
        let all = program::guards(plan, of).into_iter();
        return all.map(|(lead, text)| guard(&lead, text)).collect();
    }
    let Some(Operator::Aggregate {
        cells, units, keys, ..
    }) = plan.operators.get(plan.release.input)
    else {
        return Vec::new();
    };
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
    let mut all = Vec::new();
    for at in &plan.release.group_guards {
        if let Some(unit) = units.get(*at) {
            let whole = if keys.is_empty() { "result" } else { "group" };
            all.push(guard(&format!("each {whole}"), text(unit)));
        }
    }
    for (index, unit) in units.iter().enumerate() {
        if plan.release.group_guards.contains(&index) {
            continue;
        }
        let guarded = cells.iter().filter(|of| of.guards.contains(&index)).count();
        let what = if guarded == 1 { "1 number" } else { "numbers" };
        all.push(guard(what, text(unit)));
    }
    if units.is_empty() {
        all.push(guard(
            "none",
            "the tables are public reference data".to_owned(),
        ));
    }
    let withheld = match plan.release.public_groups {
        Some(groups) => format!(
            "groups below k are withheld; their number is told, out of {} possible ones",
            count(groups)
        ),
        None if keys.is_empty() => "numbers below k are NULL".to_owned(),
        None => "groups below k are withheld, and their number is not told".to_owned(),
    };
    all.push(guard("withheld", withheld));
    all
}

fn released(plan: &JointPlan) -> Vec<Entry> {
    let made = match plan.operators.last() {
        Some(Operator::Program(of)) => program::opened(plan, of),
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (index, column) in plan.release.columns.iter().enumerate() {
        let what = match column.source {
            ReleasedSource::Key(key) => format!("key {key}"),
            ReleasedSource::Cell(cell) => format!("number {cell}"),
            ReleasedSource::Opened(column) => made.get(column).cloned().unwrap_or_default(),
            ReleasedSource::Average { sum, count } => {
                format!("number {sum} / number {count}, both opened")
            }
        };
        all.push(Entry {
            item: format!("r{index}"),
            department: home(plan).to_owned(),
            form: "opened".to_owned(),
            ..Entry::new(Section::Release, what)
        });
    }
    all.push(Entry {
        department: home(plan).to_owned(),
        form: "then".to_owned(),
        ..Entry::new(Section::Release, &plan.release.sql)
    });
    all.extend(plan.release.output.iter().map(|of| {
        let null = if of.nullable { "" } else { " not null" };
        Entry {
            department: home(plan).to_owned(),
            form: "result".to_owned(),
            ..Entry::new(
                Section::Release,
                format!("{} {}{null}", of.name, of.data_type),
            )
        }
    }));
    all
}
