//! One SELECT as it was written: parsed, its words with their places, its parameters bound.

use super::diagnose;
use super::parameters;
use crate::error::{Code, Error, Result};
use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, Expr as SqlExpr, ObjectNamePart, SetExpr, Statement, TimezoneInfo,
    visit_expressions_mut, visit_relations, visit_relations_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::ops::ControlFlow;

/// Nested parentheses and subqueries that the parser accepts: the engine's own default, so that
/// what we emit parses at its owner.
pub(super) const PARSER_DEPTH: usize = 50;

/// The most tokens besides literals, commas and white space: naming and typing a chain of operators
/// takes time with the square of its length.
const MAX_WORDS: usize = 2_000;

/// The name of the one catalogue, for tools that want one: departments are its schemas.
pub const CATALOG: &str = "federation";

/// A parsed query, and where its words are.
pub(super) struct Query {
    pub(super) statement: Statement,
    tokens: Vec<TokenWithSpan>,
}

impl Query {
    /// Parses exactly one SELECT.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let dialect = GenericDialect {};
        let mut tokens = Tokenizer::new(&dialect, text)
            .tokenize_with_location()
            .map_err(|error| {
                Error::new(Code::SqlSyntax, "the SQL text has a broken token")
                    .position(error.location.line, error.location.column)
            })?;
        parameters::numbered(&mut tokens);
        let words = tokens.iter().filter(|token| {
            !matches!(
                token.token,
                Token::Whitespace(_)
                    | Token::Comma
                    | Token::Number(..)
                    | Token::SingleQuotedString(_)
            )
        });
        if words.count() > MAX_WORDS {
            return Err(Error::new(
                Code::LimitExceeded,
                format!("the SQL has more than {MAX_WORDS} words and operators"),
            ));
        }
        let mut statements = Parser::new(&dialect)
            .with_recursion_limit(PARSER_DEPTH)
            .with_tokens_with_locations(tokens.clone())
            .parse_statements()
            .map_err(|error| diagnose::syntax(&error))?;
        let mut query = Self {
            statement: match (statements.pop(), statements.is_empty()) {
                (Some(statement), true) => statement,
                (None, _) => return Err(Error::new(Code::SqlSyntax, "the SQL text is empty")),
                (Some(_), false) => {
                    return Err(Error::new(
                        Code::Unsupported,
                        "several statements: send one SELECT at a time",
                    ));
                }
            },
            tokens,
        };
        query.only_select()?;
        without_catalog(&mut query.statement);
        microseconds(&mut query.statement);
        Ok(query)
    }

    /// The schemas that it names, each as often as it does.
    pub(super) fn schemas(&self) -> Vec<String> {
        let mut schemas = Vec::new();
        let _ = visit_relations(&self.statement, |name| {
            if let [.., schema, _] = name.0.as_slice()
                && let Some(schema) = schema.as_ident()
            {
                schemas.push(match schema.quote_style {
                    Some(_) => schema.value.clone(),
                    None => schema.value.to_ascii_lowercase(),
                });
            }
            ControlFlow::<()>::Continue(())
        });
        schemas
    }

    /// Whether it reads no table at all.
    pub(super) fn is_without_tables(&self) -> bool {
        visit_relations(&self.statement, |_| ControlFlow::Break(())).is_continue()
    }

    /// How many parameters it has.
    pub(super) fn parameters(&self) -> Result<usize> {
        parameters::count(&self.tokens)
    }

    /// Puts values in the place of its parameters.
    pub(super) fn bind(mut self, values: Option<&RecordBatch>) -> Result<Self> {
        let (due, given) = (
            self.parameters()?,
            values.map_or(0, RecordBatch::num_columns),
        );
        if due != given {
            return Err(Error::new(
                Code::BadRequest,
                format!("the query has {due} parameters, and {given} values are bound"),
            ));
        }
        if let Some(values) = values {
            parameters::bind(&mut self.statement, values)?;
            microseconds(&mut self.statement);
        }
        Ok(self)
    }

    fn only_select(&self) -> Result<()> {
        let Statement::Query(select) = &self.statement else {
            return Err(self.unsupported("a statement other than SELECT", &[]));
        };
        match select.body.as_ref() {
            SetExpr::Select(_) | SetExpr::SetOperation { .. } | SetExpr::Query(_) => Ok(()),
            _ => Err(self.unsupported("a query without SELECT", &[])),
        }
    }

    /// An error that names a construct, at the first of these words in the text.
    pub(super) fn unsupported(&self, construct: &str, words: &[&str]) -> Error {
        let error = Error::new(
            Code::Unsupported,
            format!("joint queries do not support {construct}"),
        );
        match words.iter().find_map(|word| self.find(word, 1)) {
            Some((line, column)) => error.position(line, column),
            None => error,
        }
    }

    /// Where the `nth` (from 1) occurrence of a word is, whatever its case.
    pub(super) fn find(&self, word: &str, nth: usize) -> Option<(u64, u64)> {
        self.words()
            .filter(|(text, _, _)| text.eq_ignore_ascii_case(word))
            .nth(nth.saturating_sub(1))
            .map(|(_, line, column)| (line, column))
    }

    /// Where a column is written: after its qualifier if it has one, alone if it has none, or else
    /// wherever its name is.
    pub(super) fn find_column(&self, qualifier: Option<&str>, name: &str) -> Option<(u64, u64)> {
        let tokens: Vec<&TokenWithSpan> = self
            .tokens
            .iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_)))
            .collect();
        let is = |index: Option<usize>, name: &str| {
            let token = index.and_then(|index| tokens.get(index));
            matches!(token.map(|token| &token.token),
                Some(Token::Word(word)) if word.value.eq_ignore_ascii_case(name))
        };
        let after_period = |index: usize| {
            let before = index.checked_sub(1).and_then(|index| tokens.get(index));
            before.is_some_and(|token| token.token == Token::Period)
        };
        let exact = (0..tokens.len())
            .filter(|index| is(Some(*index), name))
            .find(|index| match qualifier {
                Some(qualifier) => after_period(*index) && is(index.checked_sub(2), qualifier),
                None => !after_period(*index),
            })
            .and_then(|index| tokens.get(index))
            .map(|token| (token.span.start.line, token.span.start.column));
        exact.or_else(|| self.find(name, 1))
    }

    fn words(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.tokens.iter().filter_map(|token| match &token.token {
            Token::Word(word) => Some((
                word.value.as_str(),
                token.span.start.line,
                token.span.start.column,
            )),
            _ => None,
        })
    }
}

/// Tools name a table in full, by the one catalogue that there is.
fn without_catalog(statement: &mut Statement) {
    let _ = visit_relations_mut(statement, |name| {
        let catalog = name.0.first().and_then(ObjectNamePart::as_ident);
        if name.0.len() == 3 && catalog.is_some_and(|part| part.value == CATALOG) {
            name.0.remove(0);
        }
        ControlFlow::<()>::Continue(())
    });
}

/// `TIMESTAMP` is in microseconds, as columns are; the engine's own is in nanoseconds, which do not
/// reach the year 2263.
fn microseconds(statement: &mut Statement) {
    let _ = visit_expressions_mut(statement, |expr| {
        if let SqlExpr::Cast { data_type, .. } = expr {
            in_microseconds(data_type);
        } else if let SqlExpr::TypedString(typed) = expr {
            in_microseconds(&mut typed.data_type);
        }
        ControlFlow::<()>::Continue(())
    });
}

fn in_microseconds(data_type: &mut SqlType) {
    if let SqlType::Timestamp(None | Some(6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) =
        data_type
    {
        *data_type = SqlType::Timestamp(Some(6), TimezoneInfo::None);
    }
}
