//! What a waiting person sees on standard error: one line that changes on a terminal, one line for
//! each phase otherwise, nothing with `--quiet`. Public sizes only.

use super::say;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use veilgate_federated::plan::explain::bytes as human_bytes;
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
        parts.push(format!("{} sent", human_bytes(event.bytes)));
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
}
