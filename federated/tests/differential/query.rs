//! Random queries of the class that joint execution supports, as templates: `{g0}` stands for a
//! group key, `{c0}` for an aggregate, so that the oracle can put guarded values in their places.

use crate::data::{Dice, RandomTable};
use veilgate_federated::catalog::Unit;
use veilgate_federated::schema::ScalarType;

/// An aggregate: its SQL, and the column whose NULLs do not contribute.
pub struct Aggregate {
    pub sql: String,
    pub argument: Option<String>,
    /// SQL of the same sum in a type that cannot overflow, for integer sums.
    pub wide: Option<String>,
}

pub struct Query {
    pub from: String,
    pub condition: String,
    pub keys: Vec<String>,
    pub aggregates: Vec<Aggregate>,
    /// (template, alias)
    pub items: Vec<(String, Option<String>)>,
    pub having: Option<String>,
    pub order: Vec<String>,
    pub limit: Option<u64>,
    /// Whether ORDER BY leaves nothing open.
    pub total_order: bool,
    /// For each table: the column that is its privacy unit and its k.
    pub units: Vec<(String, u32)>,
}

/// A column of one table, by alias.
struct Named<'a> {
    table: &'a RandomTable,
    alias: &'static str,
}

const ALIASES: [&str; 3] = ["a", "b", "c"];

impl Query {
    pub fn random(dice: &mut Dice, tables: &[RandomTable]) -> Self {
        let mut named: Vec<Named<'_>> = tables
            .iter()
            .zip(ALIASES)
            .map(|(table, alias)| Named { table, alias })
            .collect();
        dice.shuffle(&mut named);
        let (from, mut conditions) = joins(dice, &named);
        for table in &named {
            while dice.chance(30) {
                conditions.push(local_condition(dice, table));
            }
        }
        if named.len() > 1 {
            while dice.chance(25) {
                conditions.push(cross_condition(dice, &named));
            }
        }
        let keys = group_keys(dice, &named);
        let aggregates: Vec<Aggregate> = (0..dice.range(1, 4))
            .map(|_| aggregate(dice, &named))
            .collect();
        let mut query = Self {
            from,
            condition: conditions.join(" AND "),
            keys,
            aggregates,
            items: vec![],
            having: None,
            order: vec![],
            limit: None,
            total_order: false,
            units: units(&named),
        };
        query.dress(dice);
        query
    }

    /// Projection, HAVING, ORDER BY, LIMIT.
    fn dress(&mut self, dice: &mut Dice) {
        for key in 0..self.keys.len() {
            let alias = dice.chance(50).then(|| format!("key{key}"));
            self.items.push((format!("{{g{key}}}"), alias));
        }
        for cell in 0..self.aggregates.len() {
            let template = match dice.index(12) {
                0 => format!("{{c{cell}}} + 1"),
                1 => format!("COALESCE({{c{cell}}}, 0)"),
                _ => format!("{{c{cell}}}"),
            };
            self.items.push((template, Some(format!("value{cell}"))));
        }
        if !self.keys.is_empty() && dice.chance(30) {
            let cell = dice.index(self.aggregates.len());
            let comparator = dice.pick(&["<", "<=", ">", ">=", "<>"]);
            let bound = dice.range(-3, 12);
            self.having = Some(format!("{{c{cell}}} {comparator} {bound}"));
        }
        if dice.chance(60) {
            if dice.chance(40) {
                let cell = dice.index(self.aggregates.len());
                self.order.push(format!("{{c{cell}}} {}", direction(dice)));
            }
            if dice.chance(80) {
                for key in 0..self.keys.len() {
                    self.order.push(format!("{{g{key}}} {}", direction(dice)));
                }
                self.total_order = !self.order.is_empty();
            }
        }
        if dice.chance(35) {
            self.limit = Some(dice.range(0, 6) as u64);
        }
        self.total_order |= self.keys.is_empty();
    }

    /// The SQL that an analyst writes.
    pub fn sql(&self) -> String {
        let fill = |template: &str| self.fill(template, &self.keys, |c| c.sql.clone());
        let mut sql = format!("SELECT {} FROM {}", self.projection(fill), self.from);
        if !self.condition.is_empty() {
            sql += &format!(" WHERE {}", self.condition);
        }
        if !self.keys.is_empty() {
            sql += &format!(" GROUP BY {}", self.keys.join(", "));
        }
        sql + &self.tail(fill, "HAVING")
    }

    /// The SQL that makes, from all data in the clear, the guarded table with columns `g*`, `c*`.
    pub fn guarded_sql(&self) -> String {
        let mut inner: Vec<String> = vec![];
        for (i, key) in self.keys.iter().enumerate() {
            inner.push(format!("{key} AS g{i}"));
        }
        for (i, (unit, _)) in self.units.iter().enumerate() {
            inner.push(format!("COUNT(DISTINCT {unit}) AS u{i}"));
        }
        let mut outer: Vec<String> = (0..self.keys.len()).map(|i| format!("g{i}")).collect();
        for (c, aggregate) in self.aggregates.iter().enumerate() {
            inner.push(format!("{} AS c{c}", aggregate.sql));
            let mut guards = self.group_guards();
            if let Some(argument) = &aggregate.argument {
                for (i, (unit, k)) in self.units.iter().enumerate() {
                    inner.push(format!(
                        "COUNT(DISTINCT CASE WHEN {argument} IS NOT NULL THEN {unit} END) AS u{i}c{c}"
                    ));
                    guards.push(format!("u{i}c{c} >= {k}"));
                }
            }
            let guard = if guards.is_empty() {
                "true".to_owned()
            } else {
                guards.join(" AND ")
            };
            outer.push(format!("CASE WHEN {guard} THEN c{c} END AS c{c}"));
            if let Some(wide) = &aggregate.wide {
                inner.push(format!("{wide} AS w{c}"));
                outer.push(format!("CASE WHEN {guard} THEN w{c} END AS w{c}"));
            }
        }
        let mut sql = format!(
            "SELECT {} FROM (SELECT {} FROM {}",
            outer.join(", "),
            inner.join(", "),
            self.from
        );
        if !self.condition.is_empty() {
            sql += &format!(" WHERE {}", self.condition);
        }
        if !self.keys.is_empty() {
            sql += &format!(" GROUP BY {}", self.keys.join(", "));
        }
        sql += ") AS all_groups";
        if !self.keys.is_empty() && !self.units.is_empty() {
            sql += &format!(" WHERE {}", self.group_guards().join(" AND "));
        }
        sql
    }

    /// The SQL over that table (registered as `guarded`) that gives the answer; `limited` says
    /// whether LIMIT applies.
    pub fn final_sql(&self, limited: bool) -> String {
        let keys: Vec<String> = (0..self.keys.len()).map(|i| format!("g{i}")).collect();
        let cells: Vec<String> = (0..self.aggregates.len())
            .map(|c| format!("c{c}"))
            .collect();
        let fill = |template: &str| {
            let mut text = template.to_owned();
            for (i, key) in keys.iter().enumerate() {
                text = text.replace(&format!("{{g{i}}}"), key);
            }
            for (i, cell) in cells.iter().enumerate() {
                text = text.replace(&format!("{{c{i}}}"), cell);
            }
            text
        };
        let mut sql = format!("SELECT {} FROM guarded", self.projection(fill));
        let tail = self.tail(fill, "WHERE");
        match tail.find(" LIMIT ") {
            Some(at) if !limited => sql += &tail[..at],
            _ => sql += &tail,
        }
        sql
    }

    fn group_guards(&self) -> Vec<String> {
        let guards = self.units.iter().enumerate();
        guards.map(|(i, (_, k))| format!("u{i} >= {k}")).collect()
    }

    fn fill(&self, template: &str, keys: &[String], cell: impl Fn(&Aggregate) -> String) -> String {
        let mut text = template.to_owned();
        for (i, key) in keys.iter().enumerate() {
            text = text.replace(&format!("{{g{i}}}"), key);
        }
        for (i, aggregate) in self.aggregates.iter().enumerate() {
            text = text.replace(&format!("{{c{i}}}"), &cell(aggregate));
        }
        text
    }

    fn projection(&self, fill: impl Fn(&str) -> String) -> String {
        let items = self.items.iter().map(|(template, alias)| match alias {
            Some(alias) => format!("{} AS {alias}", fill(template)),
            None => fill(template),
        });
        items.collect::<Vec<_>>().join(", ")
    }

    fn tail(&self, fill: impl Fn(&str) -> String, having: &str) -> String {
        let mut sql = String::new();
        if let Some(condition) = &self.having {
            sql += &format!(" {having} {}", fill(condition));
        }
        if !self.order.is_empty() {
            let order: Vec<String> = self.order.iter().map(|part| fill(part)).collect();
            sql += &format!(" ORDER BY {}", order.join(", "));
        }
        if let Some(limit) = self.limit {
            sql += &format!(" LIMIT {limit}");
        }
        sql
    }
}

fn direction(dice: &mut Dice) -> &'static str {
    let directions = ["", "ASC", "DESC", "ASC NULLS FIRST", "DESC NULLS LAST"];
    directions[dice.index(directions.len())]
}

fn units(named: &[Named<'_>]) -> Vec<(String, u32)> {
    let mut units: Vec<(String, u32)> = vec![];
    for Named { table, alias } in named {
        match &table.unit {
            Unit::None => {}
            Unit::Row => units.push((format!("{alias}.rowid"), table.k)),
            Unit::Column(column) => units.push((format!("{alias}.{column}"), table.k)),
        }
    }
    units
}

fn joins(dice: &mut Dice, named: &[Named<'_>]) -> (String, Vec<String>) {
    let composite = |table: &RandomTable| table.columns.iter().any(|c| c.spec.name == "part");
    let mut from = String::new();
    let mut conditions = vec![];
    let comma = dice.chance(20);
    for (i, Named { table, alias }) in named.iter().enumerate() {
        let relation = format!("{}.t {alias}", table.department);
        if i == 0 {
            from = relation;
            continue;
        }
        let other = named[dice.index(i)].alias;
        let mut on = if dice.chance(50) {
            vec![format!("{other}.id = {alias}.id")]
        } else {
            vec![format!("{alias}.id = {other}.id")]
        };
        if composite(table) {
            on.push(format!("{alias}.part = {other}.part"));
        }
        if comma {
            from += &format!(", {relation}");
            conditions.extend(on);
        } else {
            from += &format!(" JOIN {relation} ON {}", on.join(" AND "));
        }
    }
    (from, conditions)
}

fn local_condition(dice: &mut Dice, Named { alias, .. }: &Named<'_>) -> String {
    let comparator = *dice.pick(&["<", "<=", ">", ">=", "<>", "="]);
    match dice.index(13) {
        0 => format!("{alias}.x {comparator} {}", dice.range(-10, 10)),
        1 => format!("{alias}.amount {comparator} {}.25", dice.range(-900, 900)),
        2 if dice.chance(50) => {
            format!("{alias}.at {comparator} TIMESTAMP '1970-01-01 12:34:56.789'")
        }
        2 => format!("{alias}.day {comparator} DATE '1970-01-01'"),
        3 => format!("{alias}.flag"),
        4 => format!("NOT {alias}.flag"),
        5 => format!("{alias}.code IN ('east', 'west', 'south')"),
        6 => format!("{alias}.text LIKE 'a%'"),
        7 => format!("{alias}.x IS NOT NULL"),
        8 => format!("{alias}.day BETWEEN DATE '1960-01-01' AND DATE '2001-06-30'"),
        9 => format!("({alias}.x > 3 OR {alias}.amount < 0)"),
        10 => format!("{alias}.code <> 'north'"),
        11 => format!("{alias}.x + 1 > 2"),
        _ => format!("{alias}.big {comparator} 0"),
    }
}

fn cross_condition(dice: &mut Dice, named: &[Named<'_>]) -> String {
    let left = dice.index(named.len());
    let mut right = dice.index(named.len() - 1);
    if right >= left {
        right += 1;
    }
    let (left, right) = (named[left].alias, named[right].alias);
    let comparator = *dice.pick(&["<", "<=", ">", ">=", "<>"]);
    let column = *dice.pick(&["x", "amount", "day", "at", "big", "wide", "text"]);
    let compare = format!("{left}.{column} {comparator} {right}.{column}");
    match dice.index(6) {
        0 => format!("({compare} OR {left}.flag)"),
        1 => format!("({compare} OR ({left}.x > 0 AND {right}.flag))"),
        2 => format!("NOT ({compare})"),
        _ => compare,
    }
}

fn group_keys(dice: &mut Dice, named: &[Named<'_>]) -> Vec<String> {
    let count = *dice.pick(&[0, 1, 1, 1, 2]);
    let mut keys: Vec<String> = vec![];
    for _ in 0..count {
        let alias = named[dice.index(named.len())].alias;
        let column = *dice.pick(&["code", "code", "flag", "x", "day", "at", "text"]);
        let key = format!("{alias}.{column}");
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn aggregate(dice: &mut Dice, named: &[Named<'_>]) -> Aggregate {
    let Named { table, alias } = &named[dice.index(named.len())];
    let column = *dice.pick(&["x", "amount", "wide", "x", "amount", "big"]);
    let name = format!("{alias}.{column}");
    let spec = table
        .columns
        .iter()
        .find(|c| c.spec.name == column)
        .unwrap();
    let integer = spec.spec.data_type == ScalarType::Int64;
    match dice.index(8) {
        0 | 1 => Aggregate {
            sql: "COUNT(*)".to_owned(),
            argument: None,
            wide: None,
        },
        2 => {
            let column = *dice.pick(&["x", "day", "at", "flag", "text", "code"]);
            Aggregate {
                sql: format!("COUNT({alias}.{column})"),
                argument: Some(format!("{alias}.{column}")),
                wide: None,
            }
        }
        // Averages of integers are floating point: kept where sums are exact.
        3 | 4 if column != "big" => Aggregate {
            sql: format!("AVG({name})"),
            argument: Some(name),
            wide: None,
        },
        5 if column == "x" => Aggregate {
            sql: format!("SUM({name} + 3)"),
            argument: Some(name),
            wide: None,
        },
        _ => Aggregate {
            sql: format!("SUM({name})"),
            argument: Some(name.clone()),
            wide: integer.then(|| {
                // Plus zero, so that it has another name than the plain sum.
                let zero = "CAST(0 AS DECIMAL(38, 0))";
                format!("SUM(CAST({name} AS DECIMAL(38, 0)) + {zero})")
            }),
        },
    }
}
