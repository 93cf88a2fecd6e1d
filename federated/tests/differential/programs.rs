//! Random queries of several steps: outer, semi and anti joins, subqueries, aggregates of aggregates,
//! expressions over several departments, DISTINCT, UNION ALL, ORDER BY with LIMIT. All rules have k = 1
//! and allow raw output, so that the answer is the engine's own.

mod subqueries;

use crate::data::{Dice, RandomTable, Shape};
use crate::oracle::{Oracle, rows};
use crate::{Tally, departments_of, setting};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use std::collections::BTreeMap;
use std::sync::Arc;
use veilgate_federated::catalog::Unit;
use veilgate_federated::error::{Blame, Code};
use veilgate_federated::plan::explain::explain;
use veilgate_federated::policy::{AggregateFunction, Leakage, Rule, Use};
use veilgate_federated::testing::{Department, Federation};

const NAMES: [&str; 3] = ["civil", "social", "tax"];

/// A query, and whether its order leaves nothing open.
pub struct Query {
    pub sql: String,
    pub ordered: bool,
}

/// A relation of FROM: its alias and columns by type.
#[derive(Clone)]
pub struct Source {
    pub alias: String,
    pub numbers: Vec<String>,
    pub bools: Vec<String>,
    pub texts: Vec<String>,
    pub dates: Vec<String>,
    pub times: Vec<String>,
    pub key: String,
}

impl Source {
    fn of_table(alias: &str) -> Self {
        let named = |names: &[&str]| names.iter().map(|name| format!("{alias}.{name}")).collect();
        Self {
            alias: alias.to_owned(),
            numbers: named(&["x", "amount", "x", "amount", "wide"]),
            bools: named(&["flag"]),
            texts: named(&["code", "code", "text"]),
            dates: named(&["day"]),
            times: named(&["at"]),
            key: format!("{alias}.id"),
        }
    }
}

pub struct Maker<'a> {
    pub dice: &'a mut Dice,
    tables: &'a [RandomTable],
    next: usize,
}

impl Maker<'_> {
    fn alias(&mut self) -> String {
        self.next += 1;
        format!("s{}", self.next)
    }

    fn table(&mut self) -> &RandomTable {
        let at = self.dice.index(self.tables.len());
        &self.tables[at]
    }

    fn unique(table: &RandomTable) -> bool {
        table.unique
            && !table
                .columns
                .iter()
                .any(|column| column.spec.name == "part")
    }

    /// A table, or a table grouped by its key: text and columns. With `once`, one row for each key.
    fn source(&mut self, once: bool) -> (String, Source) {
        let alias = self.alias();
        let grouped = self.dice.chance(30);
        let several = self.dice.chance(60);
        let table = self.table();
        let department = table.department.clone();
        let repeats = table.columns[0].spec.max_repeats > 0 && several;
        if !grouped && (!once || Self::unique(table) || repeats) {
            return (format!("{department}.t {alias}"), Source::of_table(&alias));
        }
        let inner = "i";
        let condition = match self.dice.chance(40) {
            true => format!(" WHERE {}", self.condition_on(&Source::of_table(inner))),
            false => String::new(),
        };
        let having = match self.dice.chance(20) {
            true => " HAVING COUNT(*) > 1".to_owned(),
            false => String::new(),
        };
        let text = format!(
            "(SELECT {inner}.id AS id, SUM({inner}.x) AS sx, COUNT(*) AS n, MIN({inner}.amount) AS \
             low, MAX({inner}.x) AS high, COUNT({inner}.day) AS days, MIN({inner}.day) AS day, MAX({inner}.at) AS at FROM \
             {department}.t {inner}{condition} GROUP BY {inner}.id{having}) {alias}"
        );
        let named = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("{alias}.{name}")).collect()
        };
        let source = Source {
            numbers: named(&["sx", "n", "low", "high", "days"]),
            bools: vec![],
            texts: vec![],
            dates: named(&["day"]),
            times: named(&["at"]),
            key: format!("{alias}.id"),
            alias: alias.clone(),
        };
        (text, source)
    }

    fn comparator(&mut self) -> &'static str {
        const ALL: [&str; 6] = ["<", "<=", ">", ">=", "<>", "="];
        ALL[self.dice.index(ALL.len())]
    }

    fn condition_on(&mut self, of: &Source) -> String {
        let comparator = self.comparator();
        match self.dice.index(9) {
            8 => format!(
                "{} {comparator} TIMESTAMP '1970-01-01 12:34:56.789'",
                self.dice.pick(&of.times)
            ),
            0 if !of.bools.is_empty() => self.dice.pick(&of.bools).clone(),
            1 if !of.texts.is_empty() => format!("{} <> 'north'", self.dice.pick(&of.texts)),
            2 if !of.dates.is_empty() => {
                format!(
                    "{} {comparator} DATE '1975-06-01'",
                    self.dice.pick(&of.dates)
                )
            }
            3 => format!("{} IS NOT NULL", self.dice.pick(&of.numbers)),
            4 => format!("{} IS NULL", self.dice.pick(&of.numbers)),
            5 if !of.texts.is_empty() => format!("{} LIKE '%o%'", self.dice.pick(&of.texts)),
            _ => {
                let bound = self.dice.range(-12, 12);
                format!("{} {comparator} {bound}", self.dice.pick(&of.numbers))
            }
        }
    }

    pub fn condition(&mut self, sources: &[Source]) -> String {
        let a = self.dice.pick(sources).clone();
        let b = self.dice.pick(sources).clone();
        let comparator = self.comparator();
        let compare = match self.dice.index(5) {
            0 if !a.texts.is_empty() && !b.texts.is_empty() => {
                format!("{a}.text {comparator} {b}.text", a = a.alias, b = b.alias)
            }
            1 if !a.dates.is_empty() && !b.dates.is_empty() => format!(
                "{} {comparator} {}",
                self.dice.pick(&a.dates),
                self.dice.pick(&b.dates)
            ),
            2 => format!(
                "{} {comparator} {}",
                self.dice.pick(&a.times),
                self.dice.pick(&b.times)
            ),
            _ => format!(
                "{} {comparator} {}",
                self.dice.pick(&a.numbers),
                self.dice.pick(&b.numbers)
            ),
        };
        match self.dice.index(6) {
            0 => format!("({compare} OR {})", self.condition_on(&a)),
            1 => format!("NOT ({compare} AND {})", self.condition_on(&b)),
            2 => format!("({} OR {})", self.condition_on(&a), self.condition_on(&b)),
            3 => self.condition_on(&a),
            _ => compare,
        }
    }

    pub fn number(&mut self, sources: &[Source]) -> String {
        let a = self.dice.pick(sources).clone();
        let b = self.dice.pick(sources).clone();
        let (x, y) = (self.small(&a), self.small(&b));
        match self.dice.index(9) {
            6 => self.quotient(sources),
            0 => format!("{x} * {y}"),
            1 => format!("{x} + {y} - 1"),
            2 => {
                let condition = self.condition(sources);
                format!("CASE WHEN {condition} THEN {x} ELSE 0 END")
            }
            3 => {
                let condition = self.condition(sources);
                format!("CASE WHEN {condition} THEN {x} END")
            }
            4 => format!("COALESCE({x}, 7)"),
            5 => format!("-{x}"),
            _ => self.dice.pick(&a.numbers).clone(),
        }
    }

    pub fn aggregate(&mut self, sources: &[Source]) -> String {
        let of = self.dice.pick(sources).clone();
        match self.dice.index(12) {
            11 => {
                let function = *self.dice.pick(&["MIN", "MAX", "COUNT", "COUNT(DISTINCT"]);
                match function.ends_with("DISTINCT") {
                    true => format!("{function} {})", self.dice.pick(&of.times)),
                    false => format!("{function}({})", self.dice.pick(&of.times)),
                }
            }
            0 | 1 => "COUNT(*)".to_owned(),
            10 => {
                // Of numbers whose sums of squares fit.
                let small: Vec<String> = of
                    .numbers
                    .iter()
                    .filter(|name| !name.ends_with(".wide") && !name.ends_with("amount"))
                    .filter(|name| !name.ends_with(".low"))
                    .cloned()
                    .collect();
                let (a, b) = (self.dice.pick(&small), self.dice.pick(&small));
                match self.dice.index(5) {
                    0 => format!("VAR_POP({a})"),
                    1 => format!("STDDEV({a})"),
                    2 => format!("COVAR_SAMP({a}, {b})"),
                    3 => format!("VAR({a})"),
                    _ => format!("STDDEV_POP({a})"),
                }
            }
            2 => format!("COUNT({})", self.dice.pick(&of.numbers)),
            3 => format!("COUNT(DISTINCT {})", self.dice.pick(&of.numbers)),
            4 => format!("MIN({})", self.number(sources)),
            5 => match of.dates.is_empty() {
                true => "COUNT(*)".to_owned(),
                false => format!("MAX({})", self.dice.pick(&of.dates)),
            },
            6 => {
                let averaged: Vec<String> = of
                    .numbers
                    .iter()
                    .filter(|name| !name.ends_with(".wide"))
                    .cloned()
                    .collect();
                format!("AVG({})", self.dice.pick(&averaged))
            }
            7 => {
                let condition = self.condition(sources);
                format!("SUM({}) FILTER (WHERE {condition})", self.number(sources))
            }
            _ => format!("SUM({})", self.number(sources)),
        }
    }

    /// FROM with joins, and the columns that it has.
    pub fn from(&mut self) -> (String, Vec<Source>, Vec<String>) {
        let (mut from, first) = self.source(false);
        let mut sources = vec![first];
        let mut conditions = vec![];
        for _ in 0..self.dice.index(3) {
            let (text, source) = self.source(true);
            let other = self.dice.pick(&sources).key.clone();
            let word = *self.dice.pick(&["JOIN", "JOIN", "LEFT JOIN", "FULL JOIN"]);
            let mut on = format!("{other} = {}", source.key);
            if word == "LEFT JOIN" && self.dice.chance(25) {
                on += &format!(" AND {}", self.condition_on(&source));
            }
            from += &format!(" {word} {text} ON {on}");
            sources.push(source);
        }
        if self.dice.chance(8) {
            let alias = self.alias();
            let department = self.table().department.clone();
            from += &format!(" CROSS JOIN {department}.t {alias}");
            sources.push(Source::of_table(&alias));
            let condition = self.condition(&sources);
            conditions.push(condition);
        }
        if self.dice.chance(35) {
            let condition = self.subquery(&sources);
            conditions.push(condition);
        }
        if self.dice.chance(20) {
            let department = self.table().department.clone();
            let number = self.dice.pick(&sources).numbers.first().cloned().unwrap();
            let function = *self.dice.pick(&["MAX", "MIN", "SUM", "COUNT"]);
            let comparator = self.comparator();
            conditions.push(format!(
                "{number} {comparator} (SELECT {function}(q.x) FROM {department}.t q)"
            ));
        }
        while self.dice.chance(35) {
            let condition = self.condition(&sources);
            conditions.push(condition);
        }
        (from, sources, conditions)
    }

    pub fn clause(conditions: &[String]) -> String {
        match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        }
    }

    pub fn query(&mut self) -> Query {
        let (from, sources, conditions) = self.from();
        let clause = Self::clause(&conditions);
        match self.dice.index(8) {
            0 => {
                let mut items = vec![];
                for _ in 0..self.dice.range(1, 3) {
                    items.push(self.number(&sources));
                }
                let distinct = *self.dice.pick(&["", "DISTINCT "]);
                let named: Vec<String> = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| format!("{item} AS c{i}"))
                    .collect();
                let sql = format!("SELECT {distinct}{} FROM {from}{clause}", named.join(", "));
                self.ordered(sql, items.len())
            }
            1 => {
                // An aggregate of aggregates.
                let key = self.group_key(&sources);
                let inner = format!(
                    "SELECT {key} AS k, COUNT(*) AS n, SUM({}) AS s FROM {from}{clause} GROUP BY {key}",
                    self.number(&sources)
                );
                let sql = match self.dice.chance(50) {
                    true => {
                        format!("SELECT n AS c0, COUNT(*) AS c1 FROM ({inner}) AS g GROUP BY n")
                    }
                    false => format!("SELECT MAX(n) AS c0, MIN(s) AS c1 FROM ({inner}) AS g"),
                };
                self.ordered(sql, 2)
            }
            3 => {
                let (a, b) = (
                    self.table().department.clone(),
                    self.table().department.clone(),
                );
                let word = *self.dice.pick(&["INTERSECT", "EXCEPT", "UNION"]);
                let columns = *self.dice.pick(&["x, day", "x, flag", "amount, x", "at, x"]);
                let named: Vec<String> = columns
                    .split(", ")
                    .enumerate()
                    .map(|(i, name)| format!("{name} AS c{i}"))
                    .collect();
                let sql = format!(
                    "SELECT c0, c1 FROM (SELECT {} FROM {a}.t {word} SELECT {columns} FROM {b}.t) AS u",
                    named.join(", ")
                );
                self.ordered(sql, 2)
            }
            2 => {
                let (a, b) = (
                    self.table().department.clone(),
                    self.table().department.clone(),
                );
                let sql = format!(
                    "SELECT c0, SUM(c1) AS c1, COUNT(*) AS c2 FROM (SELECT code AS c0, x AS c1 FROM {a}.t \
                     UNION ALL SELECT code, x FROM {b}.t) AS u GROUP BY c0"
                );
                self.ordered(sql, 3)
            }
            _ => {
                let mut keys = vec![];
                for _ in 0..*self.dice.pick(&[0, 1, 1, 2]) {
                    let key = self.group_key(&sources);
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                let mut items = keys.clone();
                for _ in 0..self.dice.range(1, 3) {
                    items.push(self.aggregate(&sources));
                }
                let named: Vec<String> = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| format!("{item} AS c{i}"))
                    .collect();
                let mut sql = format!("SELECT {} FROM {from}{clause}", named.join(", "));
                if !keys.is_empty() {
                    sql += &format!(" GROUP BY {}", keys.join(", "));
                    if self.dice.chance(25) {
                        let comparator = self.comparator();
                        sql += &format!(" HAVING COUNT(*) {comparator} 2");
                    }
                }
                self.ordered(sql, items.len())
            }
        }
    }

    pub fn group_key(&mut self, sources: &[Source]) -> String {
        let of = self.dice.pick(sources).clone();
        match self.dice.index(6) {
            5 => {
                let time = self.dice.pick(&of.times).clone();
                match self.dice.index(4) {
                    0 => time,
                    1 => format!("date_trunc('month', {time})"),
                    2 => format!("CAST({time} AS DATE)"),
                    _ => format!("date_part('hour', {time})"),
                }
            }
            0 if !of.bools.is_empty() => self.dice.pick(&of.bools).clone(),
            1 if !of.dates.is_empty() => {
                format!("date_part('year', {})", self.dice.pick(&of.dates))
            }
            2 if !of.texts.is_empty() => self.dice.pick(&of.texts).clone(),
            _ => {
                let number = self.dice.pick(&of.numbers).clone();
                match number.ends_with(".wide") {
                    true => of.numbers[0].clone(),
                    false => number,
                }
            }
        }
    }

    pub fn ordered(&mut self, sql: String, columns: usize) -> Query {
        if self.dice.chance(50) {
            return Query {
                sql,
                ordered: false,
            };
        }
        let keys: Vec<String> = (1..=columns)
            .map(|at| format!("{at} {}", self.dice.pick(&["", "DESC", "ASC NULLS FIRST"])))
            .collect();
        let sql = format!("{sql} ORDER BY {}", keys.join(", "));
        if self.dice.chance(50) {
            let limit = self.dice.range(1, 6);
            return Query {
                sql: format!("{sql} LIMIT {limit}"),
                ordered: true,
            };
        }
        Query { sql, ordered: true }
    }
}

/// Everything allowed with k = 1, raw output included.
fn open(mut departments: Vec<Department>, leakage: Leakage) -> Vec<Department> {
    for department in &mut departments {
        let Some(policy) = &mut department.policy else {
            continue;
        };
        for rule in &mut policy.rules {
            rule.k = 1;
        }
        for permits in [
            Use::Output,
            Use::Aggregate(AggregateFunction::Min),
            Use::Aggregate(AggregateFunction::Max),
            Use::Aggregate(AggregateFunction::Median),
        ] {
            policy.rules.push(Rule {
                name: format!("{}.t.*/{permits}", department.name),
                table: "t".to_owned(),
                column: "*".to_owned(),
                permits,
                k: 1,
                leakage,
                recipients: vec![],
            });
        }
    }
    departments
}

/// Civil and social have parts of one table, `national.t`; tax has its own.
fn divided(dice: &mut Dice, tables: Vec<RandomTable>) -> (Vec<RandomTable>, Vec<RandomTable>) {
    let [mut national, _, tax]: [RandomTable; 3] = tables.try_into().ok().unwrap();
    let mut held = national.split(dice, &["civil", "social"]);
    national.department = "national".to_owned();
    // Keys of one member are nothing that is known of all.
    national.unique = false;
    held.push(tax.clone());
    (vec![national.clone(), national, tax], held)
}

fn case(
    seed: u64,
    horizontal: bool,
    make: Make,
    runtime: &tokio::runtime::Runtime,
    tally: &mut Tally,
) {
    let mut dice = Dice::new(seed ^ 0x5eed_0000_0000_0000);
    let mut shape = Shape::random(&mut dice);
    shape.composite = false;
    let mut tables = vec![];
    for name in NAMES {
        let unique = dice.chance(60);
        let mut table = RandomTable::random(&mut dice, &shape, name, unique);
        table.unit = Unit::Row;
        table.k = 1;
        if dice.chance(50) {
            table.declare_repeats();
        }
        tables.push(table);
    }
    let (tables, held) = match horizontal {
        true => divided(&mut dice, tables),
        false => (tables.clone(), tables),
    };
    let query = make(&mut Maker {
        dice: &mut dice,
        tables: &tables,
        next: 0,
    });
    let leakage = *dice.pick(&[Leakage::Sizes, Leakage::None]);
    let folder = tempfile::tempdir().unwrap();
    let departments = open(departments_of(&mut dice, &held, true, leakage), leakage);
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    if horizontal {
        let members = ["civil.t", "social.t"].map(str::to_owned);
        federation.declare("national.t", &members).unwrap();
    }
    federation.seed = seed;
    federation.lanes = *dice.pick(&[1, 1, 2]);
    let named = if horizontal {
        &tables[1..]
    } else {
        &tables[..]
    };
    let oracle = Oracle::new(named);
    let expected = runtime.block_on(oracle.run(&query.sql));
    let answer = federation.run_query(&query.sql, "civil", None);
    let plan = federation.plan(&query.sql, "civil", None);
    let plan = plan.map_or_else(|error| error.to_string(), |planned| explain(&planned, &[]));
    let failed = |what: String| format!("seed {seed}, {leakage:?}\n{}\n{plan}\n{what}", query.sql);
    let (answer, expected) = match (answer, expected) {
        (Ok(answer), Ok(expected)) => (answer, expected),
        // What overflows in the clear may, or may not, overflow jointly.
        (Err(error), Err(_)) if error.code == Code::Overflow => {
            *tally.kinds.entry("overflow".to_owned()).or_default() += 1;
            return;
        }
        (Ok(_), Err(_)) => return,
        // An owner divides before a join leaves rows out, where the engine may not come to them.
        (Err(error), Ok(_))
            if error.code == Code::Overflow
                && error.message.contains("division by zero")
                && query.sql.contains(" / ") =>
        {
            *tally.kinds.entry("divided earlier".to_owned()).or_default() += 1;
            return;
        }
        (Err(error), _) if crate::refused(&error) => {
            assert_ne!(error.blame(), Blame::Internal);
            if std::env::var_os("VEILGATE_SHOW").is_some() {
                println!("seed {seed} {}: {}", error.message, query.sql);
            }
            let kind = format!("refused: {}", error.message);
            *tally.kinds.entry(kind).or_default() += 1;
            return;
        }
        (Err(error), _) => {
            tally.judged += 1;
            tally
                .failures
                .push(failed(format!("{:?} {error}", error.code)));
            return;
        }
    };
    // One block with an aggregate has thresholds, also of 1; another test judges it.
    if !matches!(
        answer.planned.plan.operators.last(),
        Some(veilgate_federated::plan::Operator::Program(_))
    ) {
        *tally.kinds.entry("one block".to_owned()).or_default() += 1;
        return;
    }
    tally.judged += 1;
    let (mut got, mut due) = (rows(&rounded(&answer.batch)), rows(&rounded(&expected)));
    // Equal keys of an order with a limit leave open which of equal rows are kept: rows are equal then.
    if !query.ordered {
        got.sort_unstable();
        due.sort_unstable();
    }
    let types = |batch: &arrow::array::RecordBatch| -> Vec<String> {
        let schema = batch.schema();
        let fields = schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    };
    if got != due || types(&answer.batch) != types(&expected) {
        tally.failures.push(failed(format!(
            "rows\n  {}\nexpected\n  {}",
            got.join("\n  "),
            due.join("\n  ")
        )));
        return;
    }
    *tally.kinds.entry("equal".to_owned()).or_default() += 1;
}

/// Floating point to eleven digits: the engine adds in another order.
fn rounded(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<(String, ArrayRef, bool)> = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let column = match column.data_type() {
                DataType::Float64 => {
                    let numbers = column.as_primitive::<Float64Type>().iter();
                    let text = |of: f64| match of.abs() < 1e-9 {
                        true => "0".to_owned(),
                        false => format!("{of:.10e}"),
                    };
                    let texts = numbers.map(|number| number.map(text));
                    Arc::new(texts.collect::<StringArray>()) as ArrayRef
                }
                _ => column.clone(),
            };
            (field.name().clone(), column, true)
        })
        .collect();
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn answers_of_several_steps_equal_clear_answers() {
    judge(setting("VEILGATE_CASES", 1500), false, |maker| {
        maker.query()
    });
}

#[test]
fn answers_over_a_federated_table_equal_clear_answers() {
    judge(setting("VEILGATE_CASES", 600), true, |maker| maker.query());
}

/// Makes a query.
pub type Make = fn(&mut Maker<'_>) -> Query;

/// Random cases of such queries, over a federated table or not; the seeds of those that differ are printed.
pub fn judge(cases: u64, horizontal: bool, make: Make) {
    let first = setting("VEILGATE_SEED", 1);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|worker| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let mut tally = Tally::default();
                    for seed in (first + worker..first + cases).step_by(2) {
                        case(seed, horizontal, make, &runtime, &mut tally);
                    }
                    tally
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut failures = vec![];
    let mut judged = 0;
    for tally in tallies {
        for (kind, count) in tally.kinds {
            *kinds.entry(kind).or_default() += count;
        }
        failures.extend(tally.failures);
        judged += tally.judged;
    }
    for (kind, count) in &kinds {
        println!("{count:5} {kind}");
    }
    if !failures.is_empty() {
        let shown: Vec<_> = failures.iter().take(8).map(String::as_str).collect();
        panic!(
            "{} of {judged} differ:\n{}",
            failures.len(),
            shown.join("\n----\n")
        );
    }
    if cases >= 500 {
        assert!(judged * 2 > cases, "only {judged} of {cases} were answered");
    }
}
