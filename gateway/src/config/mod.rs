//! `gateway.toml` and `federation.toml`, as plain structs.
//!
//! Parse, don't validate: what these types hold has been checked, and every mistake of a file is
//! reported at once, with line, column and a hint. Secrets are never in these files, only paths to
//! them. Knows nothing of the command line; the environment is handed in.

mod federation;
mod gateway;
pub(crate) mod reader;

#[cfg(test)]
mod tests;

pub(crate) use federation::check_address;
pub use federation::{Federation, Gateway};
pub use gateway::{Analyst, Clients, GatewayConfig, Limits};
pub use reader::Mistakes;

/// The file name of a gateway's configuration.
pub const GATEWAY_FILE: &str = "gateway.toml";
/// The file name of the federation.
pub const FEDERATION_FILE: &str = "federation.toml";

/// Variables of this process that override the configuration: `VEILGATE__A__B=value` sets `b` in
/// table `a`.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(reader::OVERRIDE))
        .collect()
}
