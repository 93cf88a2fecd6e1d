//! The guided tour: a result, its explanation, a refusal, a proof, and how to go on. Each stop is
//! a real call to a running gateway or a real check of its files.

use super::proof;
use crate::cli::args::{DemoArgs, Format};
use crate::cli::client::{Answer, Reason};
use crate::cli::output::line_width;
use crate::cli::{explain, print, query, report};
use crate::sandbox::Sandbox;
use std::io::IsTerminal;
use std::time::Instant;
use veilgate_federated::error::{Blame, Code, Error, Result};

/// The joint query of the tour.
const QUERY: &str = "\
SELECT r.district, COUNT(*) AS incomes, AVG(i.taxable_income) AS avg_income
FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id
WHERE r.low_income
GROUP BY r.district
ORDER BY avg_income DESC";

/// What somebody curious would try next.
const REFUSED: &str = "\
SELECT r.name, i.taxable_income
FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id
WHERE i.taxable_income > 1000000";

pub(super) async fn walk(sandbox: &mut Sandbox, args: &DemoArgs, quiet: bool) -> Result<()> {
    print(&introduction(sandbox, args))?;
    let answer = first_result(sandbox, quiet).await?;
    explanation(sandbox).await?;
    refusal(sandbox).await?;
    print(&heading(
        4,
        "The proof",
        "Every gateway keeps a tamper-evident ledger. What yours says of query 1 is one\n\
         file, which anybody can verify offline with that gateway's public key.",
    ))?;
    proof::show(sandbox, &answer.query_id)?;
    print(&going_on())
}

fn introduction(sandbox: &Sandbox, args: &DemoArgs) -> String {
    format!(
        "\nFour gateways run on this machine, each a process with its own folder, keys\n\
         and ledger: {} hold generated data ({} residents),\n\
         {} is neutral and holds none. You are {}: your gateway receives\n\
         results, and nobody else's does.\n",
        sandbox.folder.owners.join(", "),
        args.people,
        sandbox.folder.neutral.join(", "),
        sandbox.who
    )
}

async fn first_result(sandbox: &mut Sandbox, quiet: bool) -> Result<Answer> {
    print(&heading(
        1,
        "One query over two departments",
        "Civil affairs knows who has a low income, tax knows the incomes. Neither shows\n\
         the other a row: they compute on secret shares, together with the bureau.",
    ))?;
    print(&indented(QUERY))?;
    let started = Instant::now();
    let answer = sandbox.ask(QUERY, quiet).await?;
    let seconds = started.elapsed().as_secs_f64();
    let mut table = Vec::new();
    answer.rows.write(Format::Table, line_width(), &mut table)?;
    print(&format!(
        "\n{}\n{}\nanswered in {seconds:.2} s\n",
        String::from_utf8_lossy(&table),
        query::notices(&answer)
    ))?;
    Ok(answer)
}

async fn explanation(sandbox: &Sandbox) -> Result<()> {
    print(&heading(
        2,
        "What leaves each department, and who sees it",
        "EXPLAIN of the same query. Every gateway checked it against its own policy.",
    ))?;
    let explained = explain::ask(&sandbox.target(), QUERY, &Reason::default()).await?;
    print(&format!("{}\n", explained.text.trim_end()))
}

async fn refusal(sandbox: &mut Sandbox) -> Result<()> {
    print(&heading(
        3,
        "A query that is refused",
        "Rows of people are not for release. The refusal names the rule, the column, and\n\
         what would be allowed instead.",
    ))?;
    print(&indented(REFUSED))?;
    match sandbox.ask(REFUSED, true).await {
        Err(error) if error.blame() == Blame::PolicyDenied => {
            let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            print(&format!(
                "\n{}exit code {}\n",
                report::describe(&error, colour),
                error.blame().exit_code()
            ))
        }
        Err(other) => Err(other),
        Ok(_) => Err(Error::new(
            Code::Internal,
            "a query for raw rows was not refused",
        )),
    }
}

fn going_on() -> String {
    let mut text = heading(5, "Go on", "");
    text.push_str(
        "  veilgate demo --sql \"SELECT ...\" --output json   your own query, rows alone\n\
         \x20 veilgate demo --export my-sandbox                these tables and policies, to edit\n\
         \x20 veilgate sandbox my-sandbox                      run them, or your own CSV and Parquet\n\
         \x20 veilgate query --dir my-sandbox \"SELECT ...\"     ask them, from another terminal\n\n\
         Tables: civil.residents, tax.income, social.pension (see `veilgate catalog`).\n",
    );
    text
}

fn heading(number: u8, title: &str, line: &str) -> String {
    let (bold, end) = if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    let line = if line.is_empty() {
        String::new()
    } else {
        format!("{line}\n")
    };
    format!("\n{bold}== {number}. {title} =={end}\n{line}\n")
}

fn indented(sql: &str) -> String {
    sql.lines().map(|line| format!("  {line}\n")).collect()
}
