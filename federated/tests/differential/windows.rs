//! Random queries with window functions, medians and percentiles, over joins and inside one department.
//!
//! What depends on how ties are broken - numbers of rows, other rows, frames of rows - is asked for once
//! in a query, and in an order by every column that the query can look at: rows that are equal in it are
//! equal in all the rest of the result.

use crate::programs::{Maker, Query, Source};

impl Maker<'_> {
    /// Every column of these sources that something can look at.
    fn all(sources: &[Source]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for source in sources {
            let lists = [&source.numbers, &source.bools, &source.texts, &source.dates];
            for name in lists.into_iter().flatten() {
                if !all.contains(name) {
                    all.push(name.clone());
                }
            }
        }
        all
    }

    /// Columns that are shown.
    fn shown(&mut self, sources: &[Source]) -> Vec<String> {
        let mut all = Self::all(sources);
        self.dice.shuffle(&mut all);
        all.truncate(2 + self.dice.index(3));
        all
    }

    fn numbers(shown: &[String]) -> Vec<String> {
        const ENDS: [&str; 8] = [
            ".x", ".amount", ".sx", ".n", ".low", ".high", ".days", ".wide",
        ];
        let ends = |name: &&String| ENDS.iter().any(|end| name.ends_with(end));
        shown.iter().filter(ends).cloned().collect()
    }

    fn direction(&mut self) -> &'static str {
        const ALL: [&str; 5] = ["", " DESC", " ASC NULLS FIRST", " DESC NULLS LAST", " ASC"];
        ALL[self.dice.index(ALL.len())]
    }

    fn order(&mut self, keys: &[String]) -> String {
        let keys: Vec<String> = keys
            .iter()
            .map(|key| format!("{key}{}", self.direction()))
            .collect();
        format!("ORDER BY {}", keys.join(", "))
    }

    fn partition(&mut self, sources: &[Source]) -> String {
        let mut keys: Vec<String> = Vec::new();
        for _ in 0..self.dice.index(3) {
            keys.push(self.group_key(sources));
        }
        match keys.is_empty() {
            true => String::new(),
            false => format!("PARTITION BY {} ", keys.join(", ")),
        }
    }

    /// A window function over rows of which these columns are shown; whether ties decide it where `ties`
    /// lets them, which is taken back then.
    fn call(&mut self, sources: &[Source], shown: &[String], ties: &mut bool) -> String {
        let partition = self.partition(sources);
        let numbers = Self::numbers(shown);
        let number = match numbers.is_empty() {
            true => "1".to_owned(),
            false => self.dice.pick(&numbers).clone(),
        };
        let mut all = Self::all(sources);
        self.dice.shuffle(&mut all);
        let total = self.order(&all);
        self.dice.shuffle(&mut all);
        // Often by what has few values, so that rows are equal in it.
        let few = sources
            .iter()
            .flat_map(|of| of.bools.iter().chain(&of.dates));
        let few: Vec<String> = few.cloned().collect();
        let some: Vec<String> = match self.dice.chance(60) && !few.is_empty() {
            true => vec![self.dice.pick(&few).clone()],
            false => all.iter().take(1 + self.dice.index(2)).cloned().collect(),
        };
        let loose = self.order(&some);
        let function = match self.dice.index(7) {
            0 => format!("SUM({number})"),
            1 => format!("COUNT({number})"),
            2 => "COUNT(*)".to_owned(),
            3 if !number.ends_with(".wide") => format!("AVG({number})"),
            4 => format!("MIN({})", self.dice.pick(shown)),
            5 => format!("MAX({})", self.dice.pick(shown)),
            _ => format!("SUM({number}) FILTER (WHERE {number} > 2)"),
        };
        let any = self.number(sources);
        let kind = match self.dice.index(12) {
            kind @ (0 | 3..=5) if *ties => {
                *ties = false;
                kind
            }
            0 | 3..=5 => 1,
            kind => kind,
        };
        match kind {
            0 => format!("ROW_NUMBER() OVER ({partition}{total})"),
            1 => format!("RANK() OVER ({partition}{loose})"),
            2 => format!("DENSE_RANK() OVER ({partition}{loose})"),
            3 | 4 => {
                let word = *self.dice.pick(&["LAG", "LEAD"]);
                let of = self.dice.pick(shown).clone();
                let by = self.dice.range(0, 4);
                let arguments = match self.dice.index(4) {
                    0 => of,
                    1 => format!("{number}, {by}, -7"),
                    2 => format!("{number}, -1"),
                    _ => format!("{of}, {by}"),
                };
                format!("{word}({arguments}) OVER ({partition}{total})")
            }
            5 => format!(
                "{function} OVER ({partition}{total} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
            ),
            6 => format!("{function} OVER ({partition})"),
            7 => format!("SUM({any}) OVER ({partition})"),
            8 => format!("SUM({any}) OVER ({partition}{loose})"),
            9 => format!(
                "{function} OVER ({partition}{loose} RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED \
                 FOLLOWING)"
            ),
            _ => format!("{function} OVER ({partition}{loose})"),
        }
    }

    fn named(items: &[String]) -> String {
        let named: Vec<String> = items
            .iter()
            .enumerate()
            .map(|(at, item)| format!("{item} AS c{at}"))
            .collect();
        named.join(", ")
    }

    pub fn windows(&mut self) -> Query {
        let (from, sources, conditions) = self.from();
        let clause = Self::clause(&conditions);
        match self.dice.index(5) {
            // Windows over the groups of a query.
            0 => {
                let key = self.group_key(&sources);
                let (a, b) = (self.number(&sources), self.direction());
                let function = *self.dice.pick(&["RANK()", "DENSE_RANK()"]);
                let sql = format!(
                    "SELECT {key} AS c0, COUNT(*) AS c1, {function} OVER (ORDER BY COUNT(*){b}) AS c2, \
                     SUM(SUM({a})) OVER (ORDER BY {key}) AS c3, LAG(COUNT(*)) OVER (ORDER BY {key}{b}) \
                     AS c4 FROM {from}{clause} GROUP BY {key}"
                );
                self.ordered(sql, 5)
            }
            // The first rows of every partition.
            1 => {
                let shown = self.shown(&sources);
                let mut all = shown.clone();
                self.dice.shuffle(&mut all);
                let (partition, order) = (self.partition(&sources), self.order(&all));
                let rows = self.dice.range(1, 3);
                let items = Self::named(&shown);
                let columns: Vec<String> = (0..shown.len()).map(|at| format!("c{at}")).collect();
                let sql = format!(
                    "SELECT {} FROM (SELECT {items}, ROW_NUMBER() OVER ({partition}{order}) AS place \
                     FROM {from}{clause}) AS w WHERE place <= {rows}",
                    columns.join(", ")
                );
                self.ordered(sql, shown.len())
            }
            // Groups of what a window makes.
            2 => {
                let shown = self.shown(&sources);
                let call = self.call(&sources, &shown, &mut true);
                let sql = format!(
                    "SELECT w AS c0, COUNT(*) AS c1 FROM (SELECT {call} AS w FROM {from}{clause}) AS i \
                     GROUP BY w"
                );
                self.ordered(sql, 2)
            }
            _ => {
                let mut items = self.shown(&sources);
                let shown = items.clone();
                let mut ties = true;
                for _ in 0..self.dice.range(1, 3) {
                    items.push(self.call(&sources, &shown, &mut ties));
                }
                let sql = format!("SELECT {} FROM {from}{clause}", Self::named(&items));
                self.ordered(sql, items.len())
            }
        }
    }

    pub fn middles(&mut self) -> Query {
        let (from, sources, conditions) = self.from();
        let clause = Self::clause(&conditions);
        let mut keys = Vec::new();
        for _ in 0..*self.dice.pick(&[0, 1, 1, 2]) {
            let key = self.group_key(&sources);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut items = keys.clone();
        for at in 0..self.dice.range(1, 3) {
            let number = self.number(&sources);
            let fraction = *self
                .dice
                .pick(&["0.25", "0.5", "0.75", "0.125", "0", "1", "0.984375"]);
            let direction = *self.dice.pick(&["", " DESC"]);
            items.push(match self.dice.index(6) {
                0 if at > 0 => self.aggregate(&sources),
                0 | 1 => format!("MEDIAN({number})"),
                2 => {
                    let condition = self.condition(&sources);
                    format!("MEDIAN({number}) FILTER (WHERE {condition})")
                }
                3 => format!("percentile_cont({number}, {fraction})"),
                4 => format!(
                    "percentile_cont({fraction}) WITHIN GROUP (ORDER BY {number}{direction})"
                ),
                _ => {
                    let of = self.dice.pick(&sources).clone();
                    format!("MEDIAN({})", self.dice.pick(&of.numbers))
                }
            });
        }
        let mut sql = format!("SELECT {} FROM {from}{clause}", Self::named(&items));
        if !keys.is_empty() {
            sql += &format!(" GROUP BY {}", keys.join(", "));
        }
        self.ordered(sql, items.len())
    }
}
