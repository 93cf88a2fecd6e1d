//! Whose privacy the rows of a table concern, and what is unique in it, as far as files tell.
//!
//! A unit that is too fine, such as the number of a visit, makes thresholds count rows; so nothing but
//! a name that says people or firms, or values that another department has too, makes a column the
//! unit. Where neither is found, nobody guesses: the steward is asked for one line.

use super::profile::{ColumnProfile, TableProfile};
use crate::catalog::file::{quote, quote_key};
use crate::catalog::names::{self, Naming, Subject};
use crate::catalog::{Canonical, Column, Unit};
use crate::schema::ScalarType;

/// Distinct values that two columns share at least, for one to be told by the other.
const SHARED: u64 = 5;
/// Rows that one value has at most on average, where it names a person or firm without saying so.
const REPEATS: u64 = 20;
/// Whole numbers that do not reach so far may count or measure something.
const LARGE: u64 = 100_000;
/// Rows and columns that a code list has at most.
const LIST_ROWS: u64 = 1000;
const LIST_COLUMNS: usize = 6;

/// A table as its files show it.
pub(super) struct Seen<'a> {
    pub(super) department: &'a str,
    pub(super) name: &'a str,
    /// The name of its file, whose capitals tell words apart.
    pub(super) stem: &'a str,
    pub(super) profile: &'a TableProfile,
    pub(super) columns: &'a [Column],
}

/// A unit, and why, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) unit: Unit,
    pub(super) why: String,
}

impl Seen<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&ColumnProfile, &Column)> {
        self.profile.columns.iter().zip(self.columns)
    }

    /// The column that names people or firms by its name or check digits, or by the table's name.
    pub(super) fn by_name(&self) -> Option<Choice> {
        let checked = self
            .pairs()
            .find(|(_, column)| column.canonical.contains(&Canonical::Id18));
        if let Some((_, column)) = checked {
            return Some(chosen(column, "personal identifiers with check digits"));
        }
        let named = self
            .pairs()
            .filter(|(profile, column)| profile.values > 0 && is_text_or_whole(column))
            .filter_map(|(profile, column)| {
                let naming = names::naming(&profile.header)?;
                let odd =
                    naming.bare && naming.subject != Subject::Name && profile.repeats() > REPEATS;
                (!odd).then_some((naming, column))
            })
            .min_by_key(|(naming, _)| (naming.subject == Subject::Name, naming.bare, *naming));
        if let Some((naming, column)) = named {
            // A bare number of a table of people is nearer than somebody's name.
            if naming.subject == Subject::Name
                && let Some(choice) = self.by_table()
            {
                return Some(choice);
            }
            return Some(chosen(column, says(naming)));
        }
        self.by_table()
    }

    /// `customers.id`, where it is unique.
    fn by_table(&self) -> Option<Choice> {
        names::table_naming(self.stem)?;
        self.pairs()
            .find(|(profile, column)| {
                names::is_bare_id(&profile.header)
                    && is_text_or_whole(column)
                    && profile.is_unique(column)
            })
            .map(|(_, column)| chosen(column, "unique in a table named after people or firms"))
    }

    /// A code list that other tables refer to, else the column whose values another department has.
    pub(super) fn by_others(&self, others: &[Seen<'_>]) -> Option<Choice> {
        self.code_list(others).or_else(|| self.shared(others))
    }

    fn code_list(&self, others: &[Seen<'_>]) -> Option<Choice> {
        let personal = names::mentions_subject(self.stem)
            || self
                .pairs()
                .any(|(p, _)| names::mentions_subject(&p.header));
        if personal || self.profile.rows > LIST_ROWS || self.columns.len() > LIST_COLUMNS {
            return None;
        }
        let (code, by) = self.pairs().find_map(|(code, column)| {
            let list = (names::is_thing(&code.header) || names::is_thing(self.stem))
                && is_text_or_whole(column)
                && !is_measure(code, column)
                && code.is_unique(column);
            let refers = |other: &&Seen<'_>| other.profile.rows > self.profile.rows;
            let by = others.iter().filter(refers).find_map(|other| {
                let column = other.pairs().find(|(p, c)| refers_to(p, c, code))?;
                Some(format!(
                    "{}.{}.{}",
                    other.department, other.name, column.1.name
                ))
            });
            list.then_some(())?;
            Some((column, by?))
        })?;
        Some(Choice {
            unit: Unit::None,
            why: format!("a public list of {}, which {by} refers to", code.name),
        })
    }

    fn shared(&self, others: &[Seen<'_>]) -> Option<Choice> {
        let elsewhere = || {
            others
                .iter()
                .filter(|other| other.department != self.department)
        };
        self.pairs()
            .enumerate()
            .filter_map(|(at, (own, column))| {
                let by = elsewhere().find_map(|other| {
                    let (_, found) = other.pairs().find(|(theirs, their_column)| {
                        is_shared((own, column), (theirs, their_column))
                    })?;
                    Some(format!(
                        "{}.{}.{}",
                        other.department, other.name, found.name
                    ))
                })?;
                let plain = !names::is_id(&own.header);
                let order = (plain, std::cmp::Reverse(own.sample.distinct()), at);
                Some((order, column, by))
            })
            .min_by_key(|(order, _, _)| *order)
            .map(|(_, column, by)| chosen(column, &format!("its values are also those of {by}")))
    }

    /// The columns that are unique: of one, as a list. The unit first, then what says an identifier,
    /// then text; never what is measured.
    pub(super) fn key(&self, unit: &Unit) -> Vec<String> {
        let is_unit = |column: &Column| matches!(unit, Unit::Column(name) if *name == column.name);
        self.pairs()
            .enumerate()
            .filter(|(at, (profile, column))| {
                let text = *at == 0 && column.data_type == ScalarType::Utf8;
                let code = *unit == Unit::None && names::is_thing(&profile.header);
                (is_unit(column) || names::is_id(&profile.header) || text || code)
                    && is_text_or_whole(column)
                    && !is_measure(profile, column)
                    && profile.is_unique(column)
            })
            .min_by_key(|(at, (profile, column))| {
                (!is_unit(column), !names::is_id(&profile.header), *at)
            })
            .map(|(_, (_, column))| column.name.clone())
            .into_iter()
            .collect()
    }

    /// What to ask the steward, where nothing tells the unit.
    pub(super) fn question(&self, file: &str, catalog: &str) -> String {
        let mut likely: Vec<(usize, &ColumnProfile, &Column)> = self
            .pairs()
            .enumerate()
            .filter(|(_, (profile, column))| {
                is_text_or_whole(column) && !is_measure(profile, column)
            })
            .map(|(at, (profile, column))| (at, profile, column))
            .collect();
        likely.sort_by_key(|(at, profile, column)| {
            (
                !names::is_id(&profile.header),
                !profile.is_unique(column),
                *at,
            )
        });
        let columns: Vec<&str> = likely
            .iter()
            .map(|(_, _, c)| c.name.as_str())
            .take(4)
            .collect();
        let line = |unit: &str| format!("tables.{}.unit = {}", quote_key(self.name), quote(unit));
        let mut text = format!(
            "{file}: no column of table {} tells by its name or values whose privacy a row concerns, and \
             thresholds count people or firms, never rows. Write one line into {catalog}, and the rest \
             will be filled in:",
            self.name
        );
        if let Some(first) = columns.first() {
            text.push_str(&format!(
                "\n  {}  # the column of which each value is one person or firm; likeliest: {}",
                line(first),
                columns.join(", ")
            ));
        }
        text.push_str(&format!(
            "\n  {}  # or this, if every row is another person or firm\n  {}  # or this, if it is public \
             reference data, nobody's privacy",
            line("row"),
            line("none")
        ));
        text
    }
}

fn chosen(column: &Column, why: &str) -> Choice {
    Choice {
        unit: Unit::Column(column.name.clone()),
        why: why.to_owned(),
    }
}

fn says(naming: Naming) -> &'static str {
    match naming.subject {
        Subject::Person | Subject::Customer | Subject::Staff => "its name says people",
        Subject::Household => "its name says households",
        Subject::Account => "its name says accounts or cards",
        Subject::Firm => "its name says firms",
        Subject::Name => "names of people or firms, for want of anything better",
    }
}

/// Types that identifiers have.
fn is_text_or_whole(column: &Column) -> bool {
    match column.data_type {
        ScalarType::Utf8 | ScalarType::Int64 => true,
        ScalarType::Decimal { scale, .. } => scale == 0 && !column.fixed_point,
        _ => false,
    }
}

/// What is measured or counted, as far as type and name tell.
fn is_measure(profile: &ColumnProfile, column: &Column) -> bool {
    match column.data_type {
        ScalarType::Decimal { .. } => column.fixed_point || !names::is_id(&profile.header),
        _ => names::is_measure(&profile.header),
    }
}

/// Whether values could identify people or firms: no measures, words, events, kinds or small numbers.
fn identifies(profile: &ColumnProfile, column: &Column) -> bool {
    let header = &profile.header;
    if is_measure(profile, column) || names::is_event(header) || names::is_thing(header) {
        return false;
    }
    match column.data_type {
        ScalarType::Utf8 => profile.has_digits(),
        ScalarType::Int64 => profile
            .greatest()
            .is_some_and(|greatest| names::is_id(header) || greatest >= LARGE),
        _ => false,
    }
}

/// Whether a column and one of another department hold the same people or firms.
fn is_shared(own: (&ColumnProfile, &Column), other: (&ColumnProfile, &Column)) -> bool {
    let ((mine, my_column), (theirs, their_column)) = (own, other);
    if !identifies(mine, my_column) || !identifies(theirs, their_column) {
        return false;
    }
    // Rows are numbered from 1 everywhere: only one name makes such numbers the same, and `id` alone
    // is every table's.
    let (my_numbers, their_numbers) = (mine.is_running(), theirs.is_running());
    let same_name = my_column.name == their_column.name;
    if (my_numbers || their_numbers) && !same_name {
        return false;
    }
    if my_numbers && their_numbers && names::is_bare_id(&mine.header) {
        return false;
    }
    if mine.repeats() > REPEATS || !(mine.is_nearly_unique() || theirs.is_nearly_unique()) {
        return false;
    }
    let (both, of_mine, of_theirs) = mine.sample.common(&theirs.sample);
    both >= SHARED && both * 2 >= of_mine.min(of_theirs)
}

/// Whether nearly all values of a column, which repeat, are of a list's code.
fn refers_to(profile: &ColumnProfile, column: &Column, code: &ColumnProfile) -> bool {
    let (both, of_column, _) = profile.sample.common(&code.sample);
    is_text_or_whole(column)
        && !is_measure(profile, column)
        && profile.values >= 2 * profile.sample.distinct()
        && both > 0
        && both * 10 >= of_column * 9
}
