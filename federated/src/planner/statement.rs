//! What kind of statement a text is, before anything is planned.

use super::text::Query;
use crate::error::{Code, Error, Result};
use crate::stack::on_a_deep_stack;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// The schema of a gateway's own views.
pub const OWN_SCHEMA: &str = "veilgate";

/// A statement, by what is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A query over departments' tables.
    Joint,
    /// A query over the gateway's own views, or over no table: this text, its parameters numbered.
    Own(String),
    /// `EXPLAIN` of this query, which stands at its place in the text.
    Explain(String),
    /// `SET name = value`; none: back to nothing.
    Set {
        /// Of the option, in lower case.
        name: String,
        /// What it is from now on.
        value: Option<String>,
    },
    /// `SHOW name`.
    Show(String),
}

/// Tells the kind of a statement. A text that is no statement at all counts as joint: planning says
/// what is wrong with it.
///
/// # Errors
/// [`Code::LimitExceeded`] for a text that is too long; [`Code::Unsupported`] with the position for what writes, for `EXPLAIN ANALYZE`, and for a query over
/// both departments' tables and the gateway's own views; [`Code::SqlSyntax`] for a `SET` or `SHOW` of
/// another form.
pub fn statement(text: &str) -> Result<Statement> {
    super::check_length(text)?;
    on_a_deep_stack(|| kind(text))
}

fn kind(text: &str) -> Result<Statement> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else {
        return Ok(Statement::Joint);
    };
    let mut words = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon));
    let Some(first) = words.next() else {
        return Ok(Statement::Joint);
    };
    match upper(first).as_str() {
        "EXPLAIN" => explain(text, first, words.next()),
        "SET" | "RESET" => set(&words.collect::<Vec<_>>(), first),
        "SHOW" => match words.collect::<Vec<_>>().as_slice() {
            [name] => Ok(Statement::Show(upper(name).to_ascii_lowercase())),
            _ => Err(form(first, "SHOW purpose")),
        },
        word @ ("INSERT" | "UPDATE" | "DELETE" | "MERGE" | "CREATE" | "DROP" | "ALTER"
        | "TRUNCATE" | "COPY" | "GRANT" | "REVOKE" | "BEGIN" | "START" | "COMMIT"
        | "ROLLBACK") => Err(at(
            first,
            Code::Unsupported,
            &format!("{word}: a gateway answers queries and changes nothing"),
        )),
        _ => query(text),
    }
}

/// The whole statements in a text, without their semicolons, and what follows the last of them. A
/// semicolon in quotes or in a comment ends nothing; comments alone are no statement, but one that is
/// open still is something.
#[must_use]
pub fn split(text: &str) -> (Vec<String>, String) {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location() else {
        return (Vec::new(), text.to_owned());
    };
    let mut statements = Vec::new();
    let (mut start, mut says) = (0, false);
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let at = offset(text, token);
                if says {
                    statements.push(text[start..at].trim().to_owned());
                }
                (start, says) = (at + 1, false);
            }
            Token::Whitespace(_) => {}
            _ => says = true,
        }
    }
    let rest = if says { text[start..].trim() } else { "" };
    (statements, rest.to_owned())
}

fn query(text: &str) -> Result<Statement> {
    let Ok(query) = Query::parse(text) else {
        return Ok(Statement::Joint);
    };
    let schemas = query.schemas();
    let own = schemas.iter().any(|schema| schema == OWN_SCHEMA);
    match (own, schemas.iter().all(|schema| schema == OWN_SCHEMA)) {
        (_, true) if own || query.is_without_tables() => Ok(Statement::Own(numbered(text))),
        (true, false) => Err(query.unsupported(
            "a query over departments' tables and the gateway's own views together",
            &[OWN_SCHEMA],
        )),
        _ => Ok(Statement::Joint),
    }
}

/// The text with `$1` and so on in the place of each `?`.
fn numbered(text: &str) -> String {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location();
    let tokens = tokens.unwrap_or_default();
    let mark = Token::Placeholder("?".to_owned());
    let marks: Vec<usize> = tokens
        .iter()
        .filter(|token| token.token == mark)
        .map(|token| offset(text, token))
        .collect();
    let mut made = text.to_owned();
    // The last first: places before it stay.
    for (index, at) in marks.iter().enumerate().rev() {
        made.replace_range(*at..at + 1, &format!("${}", index + 1));
    }
    made
}

fn explain(text: &str, first: &TokenWithSpan, next: Option<&TokenWithSpan>) -> Result<Statement> {
    if let Some(next) = next
        && matches!(
            upper(next).as_str(),
            "ANALYZE" | "ANALYSE" | "VERBOSE" | "FORMAT"
        )
    {
        return Err(at(
            next,
            Code::Unsupported,
            "EXPLAIN has no options: it shows the joint plan, and runs nothing",
        ));
    }
    // Spaces in place of the word, so that positions in the query stay what they are.
    let upto = offset(text, first);
    let rest = text.get(upto + "EXPLAIN".len()..).unwrap_or_default();
    let before = text.get(..upto).unwrap_or_default();
    Ok(Statement::Explain(format!("{before}       {rest}")))
}

fn set(words: &[&TokenWithSpan], first: &TokenWithSpan) -> Result<Statement> {
    let due = || form(first, "SET purpose = 'what for', or RESET purpose");
    let (name, rest) = words.split_first().ok_or_else(due)?;
    let Token::Word(name) = &name.token else {
        return Err(due());
    };
    let name = name.value.to_ascii_lowercase();
    if upper(first) == "RESET" {
        return match rest {
            [] => Ok(Statement::Set { name, value: None }),
            _ => Err(due()),
        };
    }
    let [equals, value] = rest else {
        return Err(due());
    };
    if equals.token != Token::Eq && upper(equals) != "TO" {
        return Err(due());
    }
    let value = match &value.token {
        Token::SingleQuotedString(text) => Some(text.clone()),
        Token::Word(word) if word.quote_style.is_none() => {
            match word.value.to_ascii_uppercase().as_str() {
                "DEFAULT" | "NULL" => None,
                _ => Some(word.value.clone()),
            }
        }
        Token::Word(word) => Some(word.value.clone()),
        Token::Number(text, _) => Some(text.clone()),
        _ => return Err(due()),
    };
    Ok(Statement::Set { name, value })
}

fn upper(token: &TokenWithSpan) -> String {
    match &token.token {
        Token::Word(word) => word.value.to_ascii_uppercase(),
        _ => String::new(),
    }
}

fn form(first: &TokenWithSpan, example: &str) -> Error {
    at(first, Code::SqlSyntax, &format!("write {example}"))
}

fn at(token: &TokenWithSpan, code: Code, message: &str) -> Error {
    let start = token.span.start;
    Error::new(code, message).position(start.line, start.column)
}

/// The byte at which a token starts; lines and columns are from 1, columns in characters.
fn offset(text: &str, token: &TokenWithSpan) -> usize {
    let start = token.span.start;
    let (mut line, mut column) = (1, 1);
    for (at, letter) in text.char_indices() {
        if (line, column) == (start.line, start.column) {
            return at;
        }
        if letter == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let own = ["SELECT 1", "select * from veilgate.queries q", "SELECT 1;"];
        for text in own {
            assert_eq!(statement(text), Ok(Statement::Own(text.to_owned())));
        }
        assert_eq!(
            statement("SELECT ?, '?', ? -- ?"),
            Ok(Statement::Own("SELECT $1, '?', $2 -- ?".to_owned()))
        );
        let joint = [
            "SELECT * FROM civil.residents",
            "SELECT * FROM nothing",
            "WITH x AS (SELECT * FROM tax.t) SELECT * FROM x",
            "SELEC 1",
            "",
            "'",
        ];
        for text in joint {
            assert_eq!(statement(text), Ok(Statement::Joint), "{text}");
        }
        let set = |name: &str, value: Option<&str>| {
            let (name, value) = (name.to_owned(), value.map(str::to_owned));
            Ok(Statement::Set { name, value })
        };
        assert_eq!(
            statement("SET purpose = 'a ''b'"),
            set("purpose", Some("a 'b"))
        );
        assert_eq!(statement("set Purpose to x;"), set("purpose", Some("x")));
        assert_eq!(statement("RESET purpose"), set("purpose", None));
        assert_eq!(
            statement("SHOW PURPOSE"),
            Ok(Statement::Show("purpose".to_owned()))
        );
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        for (text, statements, rest) in [
            ("", &[][..], ""),
            ("SELECT 1", &[], "SELECT 1"),
            (
                " SELECT 1 ;\nSELECT 2; SEL",
                &["SELECT 1", "SELECT 2"],
                "SEL",
            ),
            ("SELECT 'it''s;' ;", &["SELECT 'it''s;'"], ""),
            ("SELECT E'it\\'s; x' ;", &["SELECT E'it\\'s; x'"], ""),
            ("SELECT $$a;b$$;", &["SELECT $$a;b$$"], ""),
            ("SELECT \"a;b\";x", &["SELECT \"a;b\""], "x"),
            ("SELECT 1 -- a; b\n;", &["SELECT 1 -- a; b"], ""),
            (
                "/* /* ; */ ; */ SELECT 1;",
                &["/* /* ; */ ; */ SELECT 1"],
                "",
            ),
            (";;-- nothing;\n;", &[], ""),
            ("SELECT '省;份';", &["SELECT '省;份'"], ""),
            ("SELECT 'open;", &[], "SELECT 'open;"),
            // Nothing of an open comment may run.
            ("/* off:\nSELECT 1;", &[], "/* off:\nSELECT 1;"),
        ] {
            let (got, left) = split(text);
            assert_eq!(
                (got, left.as_str()),
                (statements.iter().map(|of| (*of).to_owned()).collect(), rest),
                "{text}"
            );
        }
    }

    #[test]
    fn positions_in_an_explained_query_stay() {
        let text = "-- a\n  explain SELECT\n1";
        let kind = statement(text).unwrap();
        assert_eq!(
            kind,
            Statement::Explain("-- a\n          SELECT\n1".to_owned())
        );
    }

    #[test]
    fn what_writes_is_refused_at_its_place() {
        for text in [
            "INSERT INTO a.b VALUES (1)",
            "  drop table x",
            "EXPLAIN ANALYZE SELECT 1",
        ] {
            let error = statement(text).unwrap_err();
            assert_eq!(error.code, Code::Unsupported, "{text}");
            assert!(error.position.is_some(), "{text}");
        }
        let mixed = "SELECT 1 FROM veilgate.queries q JOIN tax.t t ON q.x = t.y";
        assert_eq!(statement(mixed).unwrap_err().code, Code::Unsupported);
        for text in ["SET", "SET a", "SET a b", "SHOW", "SET a = (", "RESET a b"] {
            assert_eq!(statement(text).unwrap_err().code, Code::SqlSyntax, "{text}");
        }
    }
}
