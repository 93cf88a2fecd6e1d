//! `veilgate completions`: the command tree, as a shell's completion script.

use super::args::{Cli, CompletionsArgs};
use clap::CommandFactory;
use veilgate_federated::error::Result;

pub(super) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "veilgate", &mut script);
    super::print(&String::from_utf8_lossy(&script))
}
