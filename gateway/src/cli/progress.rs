//! What a waiting person sees on standard error: one line that changes on a terminal, one line for
//! each phase otherwise, nothing with `--quiet`. Public sizes only.

use super::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use veilgate_proto::analyst::v1::Progress as Event;

/// The progress of one query.
pub struct Progress {
    view: View,
    /// Phases that have had their line; the gateways' events come in any order.
    told: Vec<String>,
}

enum View {
    Quiet,
    Lines,
    Bar(ProgressBar),
}

impl Progress {
    /// Starts to show progress, if it is wanted.
    #[must_use]
    pub fn start(quiet: bool) -> Self {
        let view = if quiet {
            View::Quiet
        } else if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>3}  {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(100));
            bar.set_message("connecting");
            View::Bar(bar)
        } else {
            View::Lines
        };
        Self {
            view,
            told: Vec::new(),
        }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match &self.view {
            View::Quiet => {}
            View::Bar(bar) => bar.set_message(line(event)),
            View::Lines => {
                if !self.told.contains(&event.phase) {
                    self.told.push(event.phase.clone());
                    say(&line(event));
                }
            }
        }
    }
}

impl Drop for Progress {
    /// Clears the line.
    fn drop(&mut self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }
}

/// `joint: join civil with tax, 100000 rows, 4.2 MB sent, 57 rounds`
fn line(event: &Event) -> String {
    let mut text = event.phase.clone();
    let mut parts = Vec::new();
    if !event.detail.is_empty() {
        parts.push(event.detail.clone());
    }
    if event.rows > 0 {
        parts.push(format!("{} rows", event.rows));
    }
    if event.bytes > 0 {
        parts.push(format!("{} sent", bytes(event.bytes)));
    }
    if event.rounds > 0 {
        parts.push(format!("{} rounds", event.rounds));
    }
    if !parts.is_empty() {
        text.push_str(": ");
        text.push_str(&parts.join(", "));
    }
    text
}

/// A size for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1000;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    if tenths >= 1000 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_phase_and_public_sizes() {
        let event = Event {
            phase: "joint".into(),
            rows: 100_000,
            bytes: 4_200_000,
            rounds: 57,
            detail: "join civil with tax".into(),
        };
        assert_eq!(
            line(&event),
            "joint: join civil with tax, 100000 rows, 4.2 MB sent, 57 rounds"
        );
        let event = Event {
            phase: "planning".into(),
            ..Event::default()
        };
        assert_eq!(line(&event), "planning");
    }

    #[test]
    fn sizes() {
        for (count, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (123_456, "123 kB"),
            (1_500_000, "1.5 MB"),
            (u64::MAX, "18446 PB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }
}
