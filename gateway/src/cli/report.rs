//! Failures as a person reads them on standard error, and as exit codes.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use veilgate_federated::error::{Code, Error};

/// Prints a mistake on the command line (exit 64), or the help that was asked for (exit 0).
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    let asked_for = !error.use_stderr();
    let _ = error.print();
    if asked_for {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Code::BadRequest.blame().exit_code())
    }
}

/// Prints a failure to standard error; returns its exit code.
#[must_use]
pub fn failure(error: &Error) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = std::io::stderr()
        .lock()
        .write_all(describe(error, colour).as_bytes());
    ExitCode::from(error.blame().exit_code())
}

/// The text of a failure: `error[code]: message`, then one line for each detail.
#[must_use]
pub fn describe(error: &Error, colour: bool) -> String {
    let (red, bold, end) = if colour {
        ("\x1b[1;31m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let mut text = String::new();
    let code = error.code.name();
    let _ = write!(text, "{red}error[{code}]{end}: {}", error.message);
    if let Some((line, column)) = error.position {
        let _ = write!(text, " (line {line}, column {column})");
    }
    text.push('\n');
    let mut detail = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {bold}{name:<16}{end} {value}");
        }
    };
    if let Some(denial) = &error.denial {
        detail("department:", &denial.department);
        detail("column:", &denial.column);
        detail("asked for:", &denial.asked);
        detail("rule:", &denial.rule);
        detail("allowed instead:", &denial.alternative);
    } else {
        detail("department:", error.department.as_deref().unwrap_or(""));
    }
    detail("mend:", error.code.mend());
    text
}

/// A panic is a defect: one line, no backtrace unless asked for, no data.
///
/// The message of a panic may quote a value, so only the place is printed.
pub fn install_panic_hook() {
    let with_backtrace = std::env::var_os("RUST_BACKTRACE").is_some();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map(|place| format!("{}:{}", place.file(), place.line()))
            .unwrap_or_default();
        let _ = writeln!(
            std::io::stderr().lock(),
            "error[{}]: a defect of Veilgate at {place}; {}",
            Code::Internal.name(),
            Code::Internal.mend()
        );
        if with_backtrace {
            default(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use veilgate_federated::error::Denial;

    #[test]
    fn a_refusal_says_rule_column_and_alternative() {
        let text = describe(
            &Error::denied(Denial {
                department: "tax".into(),
                rule: "default deny".into(),
                column: "tax.income.taxable_income".into(),
                asked: "output".into(),
                alternative: "aggregate(sum, avg, count) with k = 10".into(),
            }),
            false,
        );
        assert_eq!(
            text,
            "error[policy-denied]: tax does not allow output\n  \
             department:      tax\n  \
             column:          tax.income.taxable_income\n  \
             asked for:       output\n  \
             rule:            default deny\n  \
             allowed instead: aggregate(sum, avg, count) with k = 10\n  \
             mend:            Ask for what the message says would be allowed, or apply to the department.\n"
        );
    }

    #[test]
    fn a_mistake_has_its_position_and_mend() {
        let error = Error::new(Code::SqlSyntax, "expected FROM").position(2, 7);
        assert_eq!(
            describe(&error, false),
            "error[sql-syntax]: expected FROM (line 2, column 7)\n  \
             mend:            Correct the SQL at the position named.\n"
        );
        assert!(describe(&error, true).contains("\x1b[1;31m"));
    }
}
