//! What a fragment's SQL computes from which columns: re-derived from its text alone, by the
//! owner that would run it, whoever wrote it.
//!
//! The grammar is tight: `SELECT expr AS c0, ... FROM table [WHERE ...] [GROUP BY ...]` over one
//! table, without subqueries, with allow-listed deterministic functions. Whatever is not known here
//! is refused. It must not know of rules: what a lineage is permitted to be is `flow`'s to say.

mod dependencies;
mod expression;
mod failures;
mod fragment;
mod released;
mod steps;
mod types;
mod units;
mod windows;

pub(crate) use dependencies::Dependencies;
pub use expression::{Form, RowExpression};
pub(crate) use failures::unusual_arguments;
pub use fragment::{Derivation, FragmentLineage, fragment_lineage, parse_fragment};
pub use released::{ReleasedUse, released_use};
pub use steps::{ColumnName, Flow, Steps, Through, fragment_steps};
pub use types::fragment_types;
pub(crate) use units::{FragmentUnits, Who, fragment_units};

use datafusion::sql::sqlparser::ast::{Statement, visit_relations};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The nesting that the parser accepts.
const PARSER_DEPTH: usize = 50;
/// The most tokens other than literals and commas: bounds the depth of what the parser makes.
const MAX_WORDS: usize = 2000;
/// The most tokens of all kinds.
const MAX_TOKENS: usize = 40_000;

/// A construct that a fragment or a release must not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAllowed {
    /// What, in words; never a literal.
    pub construct: String,
    /// The column where it happens, when it is about one.
    pub column: Option<String>,
}

impl NotAllowed {
    pub(crate) fn new(construct: impl Into<String>) -> Self {
        Self {
            construct: construct.into(),
            column: None,
        }
    }
}

/// The tables that a fragment reads, as its text names them.
///
/// # Errors
/// Text that does not parse.
pub fn fragment_tables(sql: &str) -> Result<BTreeSet<String>, NotAllowed> {
    let statement = parse(sql)?;
    let mut tables = BTreeSet::new();
    let _ = visit_relations(&statement, |name| {
        let last = name.0.last().and_then(|part| part.as_ident());
        tables.extend(last.map(|ident| ident.value.clone()));
        ControlFlow::<()>::Continue(())
    });
    Ok(tables)
}

/// Parses one statement. Caps come first, so that hostile text cannot exhaust the stack.
fn parse(sql: &str) -> Result<Statement, NotAllowed> {
    let dialect = GenericDialect {};
    let broken = || NotAllowed::new("SQL that does not parse");
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize()
        .map_err(|_| broken())?;
    let words = tokens
        .iter()
        .filter(|token| {
            !matches!(
                token,
                Token::Whitespace(_)
                    | Token::Comma
                    | Token::Number(..)
                    | Token::SingleQuotedString(_)
            )
        })
        .count();
    if words > MAX_WORDS || tokens.len() > MAX_TOKENS {
        return Err(NotAllowed::new("SQL of that length"));
    }
    let comments = tokens.iter().any(|token| {
        use datafusion::sql::sqlparser::tokenizer::Whitespace;
        matches!(
            token,
            Token::Whitespace(
                Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_)
            )
        )
    });
    if comments {
        return Err(NotAllowed::new("a comment"));
    }
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(PARSER_DEPTH)
        .with_tokens(tokens)
        .parse_statements()
        .map_err(|_| broken())?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(NotAllowed::new("anything but one statement")),
    }
}

#[cfg(test)]
mod tests;
