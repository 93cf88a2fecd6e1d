//! Random queries of several steps: outer, semi and anti joins, subqueries, aggregates of aggregates,
//! expressions over several departments, DISTINCT, UNION ALL, ORDER BY with LIMIT. All rules have k = 1
//! and allow raw output, so that the answer is the engine's own.

mod subqueries;

use crate::data::{Dice, RandomTable};

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

impl<'a> Maker<'a> {
    pub fn new(dice: &'a mut Dice, tables: &'a [RandomTable]) -> Self {
        Self {
            dice,
            tables,
            next: 0,
        }
    }
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
