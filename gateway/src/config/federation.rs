//! `federation.toml`: the gateways that know each other, by address and pinned key.

use super::reader::{Document, Mistakes, Table};
use crate::identity::{PublicKey, check_department};
use std::path::Path;
use veilgate_federated::plan::Line;
use veilgate_federated::planner::FederatedTable;
use veilgate_federated::schema::Department;

/// A gateway of the federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Whose gateway.
    pub department: Department,
    /// `host:port`, where the others reach it.
    pub address: String,
    /// Its pinned identity.
    pub public_key: PublicKey,
    /// Who runs it. The three computing parties of a run have three operators.
    pub operator: String,
    /// What it runs on. The three computing parties of a run have three hosts.
    pub host: String,
    /// Whether it only lends its computing power, without data of its own.
    pub neutral: bool,
    /// Whether its data connections are gRPC streams, because nothing but HTTP/2 reaches it.
    pub data_over_grpc: bool,
}

/// The gateways that know each other, in ascending order of department.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    gateways: Vec<Gateway>,
    line: Line,
    tables: Vec<FederatedTable>,
}

impl Federation {
    /// Reads a federation file.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        let document = Document::open(path, &[])?;
        let federation = Self::read(&document);
        finish(document, federation)
    }

    /// A federation of these gateways.
    ///
    /// # Errors
    /// Two with one department, key or address.
    pub fn new(mut gateways: Vec<Gateway>) -> Result<Self, Mistakes> {
        gateways.sort_by(|a, b| a.department.cmp(&b.department));
        let mut mistakes = Mistakes::default();
        for (index, gateway) in gateways.iter().enumerate() {
            for other in &gateways[..index] {
                if let Some(what) = clash(other, gateway) {
                    mistakes.push(format!(
                        "{} and {} have the same {what}",
                        other.department, gateway.department
                    ));
                }
            }
        }
        if mistakes.is_empty() {
            Ok(Self {
                gateways,
                line: Line::default(),
                tables: Vec::new(),
            })
        } else {
            Err(mistakes)
        }
    }

    fn read(document: &Document) -> Option<Self> {
        let root = document.root();
        root.version();
        let mut gateways: Vec<Gateway> = Vec::new();
        let tables = root.tables("gateways");
        if tables.is_empty() {
            root.mistake("gateways", "there is none; `veilgate init` prints an entry");
        }
        for table in tables {
            let Some(gateway) = Gateway::read(&table) else {
                continue;
            };
            for other in &gateways {
                if let Some(what) = clash(other, &gateway) {
                    let field = match what {
                        "address" => "address",
                        "public key" => "public_key",
                        _ => "department",
                    };
                    table.mistake(field, format_args!("{} has the same", other.department));
                }
            }
            gateways.push(gateway);
        }
        gateways.sort_by(|a, b| a.department.cmp(&b.department));
        let line = root.table("line").map_or_else(Line::default, |t| line(&t));
        let tables = federated_tables(&root, &gateways);
        Some(Self {
            gateways,
            line,
            tables,
        })
    }

    /// What the connections between the gateways are like.
    #[must_use]
    pub fn line(&self) -> Line {
        self.line
    }

    /// Names for the rows of several departments.
    #[must_use]
    pub fn tables(&self) -> &[FederatedTable] {
        &self.tables
    }

    /// All gateways, in ascending order of department.
    #[must_use]
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// The gateway of a department.
    #[must_use]
    pub fn get(&self, department: &str) -> Option<&Gateway> {
        self.gateways
            .iter()
            .find(|gateway| gateway.department == department)
    }

    /// The text of a federation file with these gateways.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# The gateways of the federation. Every department keeps its own copy: compare keys\n\
             # over a second channel before you add one.\n\
             version = 1\n",
        );
        if self.line != Line::default() {
            text.push_str(&format!(
                "\n[line]\nround_trip_micros = {}\nmegabits_per_second = {}\nlanes = {}\n",
                self.line.round_trip_micros,
                self.line.bytes_per_second / 125_000,
                self.line.lanes
            ));
        }
        for gateway in &self.gateways {
            text.push('\n');
            text.push_str(&gateway.to_toml());
        }
        for table in &self.tables {
            let members = table.members().iter();
            let members: Vec<String> = members
                .map(|(department, table)| format!("\"{department}.{table}\""))
                .collect();
            text.push_str(&format!(
                "\n[[federated_tables]]\nname = \"{}\"\nmembers = [{}]\n",
                table.name(),
                members.join(", ")
            ));
        }
        text
    }
}

/// `[[federated_tables]]`: names of which every member is a table of a gateway with data.
fn federated_tables(root: &Table<'_>, gateways: &[Gateway]) -> Vec<FederatedTable> {
    let mut tables: Vec<FederatedTable> = Vec::new();
    for entry in root.tables("federated_tables") {
        let name = entry.require_text("name", "national.lineitem");
        let members = entry.texts("members", "[\"north.lineitem\", \"south.lineitem\"]");
        let (Some(name), Some(members)) = (name, members) else {
            continue;
        };
        let table = match FederatedTable::new(&name, &members) {
            Ok(table) => table,
            Err(what) => {
                entry.mistake("members", what);
                continue;
            }
        };
        let gateway = |name: &str| gateways.iter().find(|of| of.department == name);
        if gateway(table.space()).is_some() {
            let what = format_args!("a gateway's department is named `{}` too", table.space());
            entry.mistake("name", what);
        }
        if tables.iter().any(|other| other.name() == table.name()) {
            entry.mistake("name", format_args!("{} is declared twice", table.name()));
        }
        for (department, _) in table.members() {
            match gateway(department) {
                None => entry.mistake(
                    "members",
                    format_args!("no gateway has the department `{department}`"),
                ),
                Some(of) if of.neutral => {
                    let what = format_args!("{department} is neutral and has no tables");
                    entry.mistake("members", what);
                }
                Some(_) => {}
            }
        }
        tables.push(table);
    }
    tables
}

/// `[line]`: what one gateway's operator knows of the way to the others.
fn line(table: &Table<'_>) -> Line {
    let most = u64::from(Line::MAX_ROUND_TRIP_MICROS);
    let default = Line::default();
    let round_trip = u64::from(default.round_trip_micros);
    let round_trip = table.number("round_trip_micros", round_trip, 0..=most);
    let megabits = default.bytes_per_second / 125_000;
    let megabits = table.number("megabits_per_second", megabits, 1..=8_000_000);
    let lanes = u64::from(default.lanes);
    let lanes = table.number("lanes", lanes, 1..=u64::from(Line::MAX_LANES));
    Line {
        round_trip_micros: u32::try_from(round_trip).unwrap_or(default.round_trip_micros),
        bytes_per_second: megabits * 125_000,
        lanes: u32::try_from(lanes).unwrap_or(default.lanes),
    }
}

impl Gateway {
    fn read(table: &Table<'_>) -> Option<Self> {
        let department = table.require("department", "tax", |name| {
            check_department(name).map(|()| name.to_owned())
        });
        let address = table.require("address", "10.0.0.1:7070", |text| {
            check_address(text).map(|()| text.to_owned())
        });
        let public_key = table.require("public_key", "ed25519:...", |text| {
            text.parse::<PublicKey>().map_err(|error| error.message)
        });
        let operator = table.require("operator", "City tax bureau", non_empty);
        let host = table.require("host", "tax-dc-1", non_empty);
        let neutral = table.flag("neutral");
        let data_over_grpc = table.flag("data_over_grpc");
        Some(Self {
            department: department?,
            address: address?,
            public_key: public_key?,
            operator: operator?,
            host: host?,
            neutral,
            data_over_grpc,
        })
    }

    /// Its entry in a federation file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
        let grpc = match self.data_over_grpc {
            true => "data_over_grpc = true\n",
            false => "",
        };
        format!(
            "[[gateways]]\ndepartment = {}\naddress = {}\npublic_key = {}\noperator = {}\nhost = {}\nneutral = {}\n{grpc}",
            text(&self.department),
            text(&self.address),
            text(&self.public_key.to_string()),
            text(&self.operator),
            text(&self.host),
            self.neutral,
        )
    }
}

/// What two gateways must not share.
fn clash(one: &Gateway, other: &Gateway) -> Option<&'static str> {
    if one.department == other.department {
        Some("department")
    } else if one.public_key == other.public_key {
        Some("public key")
    } else if one.address == other.address {
        Some("address")
    } else {
        None
    }
}

fn non_empty(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        Err("must not be empty")
    } else {
        Ok(text.to_owned())
    }
}

/// Checks that `text` is `host:port`, the host a name, an IPv4 or a bracketed IPv6 address.
pub(crate) fn check_address(text: &str) -> Result<(), &'static str> {
    const EXPECTED: &str = "must be host:port, for example 10.0.0.1:7070 or tax.example.org:7070";
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host_fine = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        }
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 && host_fine => Ok(()),
        _ => Err(EXPECTED),
    }
}

/// The value, unless the document has mistakes.
pub(super) fn finish<T>(document: Document, value: Option<T>) -> Result<T, Mistakes> {
    let mistakes = document.mistakes();
    match value {
        Some(value) if mistakes.is_empty() => Ok(value),
        _ => Err(mistakes),
    }
}
