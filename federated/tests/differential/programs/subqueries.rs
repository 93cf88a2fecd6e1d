//! Random subqueries in conditions, and divisions.

use super::{Maker, Source};

impl Maker<'_> {
    /// A condition with a subquery: EXISTS and IN in every place where they can stand.
    pub(super) fn subquery(&mut self, sources: &[Source]) -> String {
        let department = self.table().department.clone();
        let of = self.dice.pick(sources).clone();
        let key = of.key.clone();
        let inner = Source::of_table("e");
        let condition = self.condition_on(&inner);
        let not = *self.dice.pick(&["", "NOT "]);
        let from = format!("FROM {department}.t e");
        match self.dice.index(10) {
            0..=3 => {
                format!("{not}EXISTS (SELECT 1 {from} WHERE e.id = {key} AND {condition})")
            }
            4 | 5 => format!("{key} IN (SELECT e.id {from} WHERE {condition})"),
            6 => {
                // Beside OR.
                let other = self.condition(sources);
                match self.dice.chance(50) {
                    true => format!(
                        "({not}EXISTS (SELECT 1 {from} WHERE e.id = {key} AND {condition}) OR {other})"
                    ),
                    false => {
                        format!("({key} IN (SELECT e.id {from} WHERE {condition}) OR {other})")
                    }
                }
            }
            7 => {
                // A comparison beside equality: the least and the greatest value decide.
                let comparator = self.comparator();
                let (number, own) = (self.small(&of), *self.dice.pick(&["x", "amount"]));
                format!(
                    "{not}EXISTS (SELECT 1 {from} WHERE e.id = {key} AND e.{own} {comparator} {number})"
                )
            }
            8 => {
                let comparator = self.comparator();
                let number = self.small(&of);
                match self.dice.chance(50) {
                    true => format!("{not}EXISTS (SELECT 1 {from} WHERE {condition})"),
                    false => {
                        format!("{not}EXISTS (SELECT 1 {from} WHERE e.x {comparator} {number})")
                    }
                }
            }
            _ => {
                let number = self.small(&of);
                format!("{number} NOT IN (SELECT e.x {from} WHERE {condition})")
            }
        }
    }

    /// A quotient; what is divided by zero is left out, or is an error.
    pub(super) fn quotient(&mut self, sources: &[Source]) -> String {
        let a = self.dice.pick(sources).clone();
        let b = self.dice.pick(sources).clone();
        let dividend = match self.dice.chance(50) {
            true => self.small(&a),
            false => {
                let named = |name: &&String| name.ends_with("amount") || name.ends_with(".low");
                let found: Vec<String> = a.numbers.iter().filter(named).cloned().collect();
                self.dice.pick(&found).clone()
            }
        };
        let divisor = self.small(&b);
        match self.dice.index(6) {
            0 => format!("{dividend} / {divisor}"),
            1 => format!("{dividend} / 7"),
            2 | 3 => format!("{dividend} / NULLIF({divisor}, 0)"),
            _ => format!("CASE WHEN {divisor} <> 0 THEN {dividend} / {divisor} END"),
        }
    }

    /// An integer of a few digits.
    pub(super) fn small(&mut self, of: &Source) -> String {
        let ends = [".x", ".sx", ".n", ".high", ".days"];
        let small = |name: &&String| ends.iter().any(|end| name.ends_with(end));
        let found: Vec<String> = of.numbers.iter().filter(small).cloned().collect();
        self.dice.pick(&found).clone()
    }
}
