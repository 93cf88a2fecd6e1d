//! Files as people get them wrong: each mistake with its line, all of them at once.

use super::*;
use crate::identity::Identity;
use std::path::Path;
use std::time::Duration;
use veilgate_federated::plan::Line;

const KEY: &str = "ed25519:";

fn key() -> String {
    Identity::generate("a").unwrap().public_key().to_string()
}

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn good() -> String {
    format!(
        "version = 1\ndepartment = \"tax\"\nlisten = \"127.0.0.1:7070\"\nstate = \"state\"\n\
         identity = \"identity.pem\"\nfederation = \"federation.toml\"\n\n[limits]\nmemory_mib = 512\n\n\
         [[analysts]]\nname = \"zhang.wei\"\npublic_key = \"{}\"\n",
        key()
    )
}

/// The mistakes in a gateway's configuration, without the file's name.
fn mistakes(text: &str, overrides: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), GATEWAY_FILE, text);
    let overrides: Vec<(String, String)> = overrides
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let Err(mistakes) = GatewayConfig::load(&path, &overrides) else {
        return Vec::new();
    };
    let prefix = format!("{}:", path.display());
    mistakes
        .lines()
        .iter()
        .map(|line| line.strip_prefix(&prefix).unwrap_or(line).to_owned())
        .collect()
}

#[test]
fn a_good_file_loads_into_plain_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), GATEWAY_FILE, &good());
    let config = GatewayConfig::load(&path, &[]).unwrap();
    assert_eq!(config.department, "tax");
    assert_eq!(config.data, None);
    assert_eq!(config.state, folder.path().join("state"));
    assert_eq!(config.identity, folder.path().join("identity.pem"));
    assert_eq!(config.users, None);
    let text = format!("users = \"private/users.toml\"\n{}", good());
    let path = write(folder.path(), GATEWAY_FILE, &text);
    let with_users = GatewayConfig::load(&path, &[]).unwrap();
    let expected = folder.path().join("private/users.toml");
    assert_eq!(with_users.users, Some(expected));
    assert_eq!(config.analysts[0].name, "zhang.wei");
    let expected = Limits {
        memory_bytes: 512 << 20,
        ..Limits::default()
    };
    assert_eq!(config.limits, expected);
}

#[test]
fn every_mistake_is_told_with_its_place_and_a_hint() {
    let text = format!(
        "version = 2\n\
         departement = \"tax\"\n\
         listen = \"0.0.0.0\"\n\
         state = 7\n\
         identity = \"identity.pem\"\n\
         federation = \"federation.toml\"\n\
         zzz = true\n\
         \n\
         [limits]\n\
         memory_mb = 512\n\
         max_runs = 0\n\
         run_seconds = \"long\"\n\
         \n\
         [[analysts]]\n\
         name = \"Zhang Wei\"\n\
         public_key = \"{KEY}abc\"\n\
         [[analysts]]\n\
         nme = \"li.na\"\n\
         public_key = \"{}\"\n",
        key()
    );
    let found = mistakes(&text, &[]);
    let expected = [
        "1:1: `version`: must be 1",
        "1:1: `department` is missing; for example department = \"tax\"",
        "2:1: unknown field `departement`; did you mean `department`?",
        "3:1: `listen`: must be host:port",
        "4:1: `state` must be text in quotes, not a whole number",
        "7:1: unknown field `zzz`; known are `analysts`, `clients`, `data`",
        "10:1: unknown field `limits.memory_mb`; did you mean `memory_mib`?",
        "11:1: `limits.max_runs`: must be 1 to 1024",
        "12:1: `limits.run_seconds` must be a whole number, not text",
        "15:1: `analysts[1].name`: a name has 1 to 63 lower-case letters",
        "16:1: `analysts[1].public_key`: not a public key",
        "17:1: `analysts[2].name` is missing",
        "18:1: unknown field `analysts[2].nme`; did you mean `name`?",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
}

#[test]
fn broken_syntax_is_told_with_its_place() {
    let found = mistakes(&good().replace("\"tax\"", "\"tax"), &[]);
    assert!(found[0].starts_with("2:"), "{found:?}");
    let found = mistakes(
        &good().replace("version = 1", "version = 1\nversion = 1"),
        &[],
    );
    assert!(found.iter().any(|line| line.starts_with("2:")), "{found:?}");
    let found = mistakes("\u{feff}= = =", &[]);
    assert!(!found.is_empty());
    assert!(!mistakes("", &[]).is_empty());
    let folder = tempfile::tempdir().unwrap();
    let missing = GatewayConfig::load(&folder.path().join("none.toml"), &[]).unwrap_err();
    assert!(missing.to_string().contains("none.toml: cannot be read"));
}

#[test]
fn wrong_shapes_are_told() {
    let cases = [
        (
            "[limits]",
            "limits = 5\n[other]",
            "`limits` must be a table, not a whole number",
        ),
        (
            "[[analysts]]",
            "[analysts]",
            "`analysts` must be a list of tables",
        ),
    ];
    for (from, to, expected) in cases {
        let found = mistakes(&good().replace(from, to), &[]);
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
    let twice = good();
    let (head, analyst) = twice.split_once("[[analysts]]").unwrap();
    let found = mistakes(
        &format!("{head}[[analysts]]{analyst}[[analysts]]{analyst}"),
        &[],
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("another analyst has the same"));
}

#[test]
fn variables_override_and_are_checked_like_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), GATEWAY_FILE, &good());
    let overrides = [
        ("VEILGATE__LISTEN".to_owned(), "0.0.0.0:9".to_owned()),
        ("VEILGATE__LIMITS__MAX_RUNS".to_owned(), "3".to_owned()),
        ("VEILGATE__LIMITS__PEER_SECONDS".to_owned(), "30".to_owned()),
    ];
    let config = GatewayConfig::load(&path, &overrides).unwrap();
    assert_eq!(config.listen, "0.0.0.0:9");
    assert_eq!(config.limits.max_runs, 3);
    assert_eq!(config.limits.peer_silence, Duration::from_secs(30));
    assert_eq!(config.limits.memory_bytes, 512 << 20);
    let found = mistakes(
        &good(),
        &[
            ("VEILGATE__LIMITS__MAX_RUN", "3"),
            ("VEILGATE__DEPARTMENT", "Tax Office"),
        ],
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("variable VEILGATE__DEPARTMENT: "))
    );
    assert!(
        found.iter().any(|line| line
            == "variable VEILGATE__LIMITS__MAX_RUN: unknown field `limits.max_run`; did you mean `max_runs`?"),
        "{found:?}"
    );
}

fn entry(department: &str, port: u16, key: &str) -> String {
    format!(
        "[[gateways]]\ndepartment = \"{department}\"\naddress = \"127.0.0.1:{port}\"\n\
         public_key = \"{key}\"\noperator = \"o\"\nhost = \"h\"\n"
    )
}

#[test]
fn federations_are_sorted_and_write_what_they_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "version = 1\n[line]\nround_trip_micros = 20000\nlanes = 4\n{}{}neutral = true\n",
        entry("tax", 1, &key()),
        entry("bureau", 2, &key())
    );
    let path = write(folder.path(), FEDERATION_FILE, &text);
    let federation = Federation::load(&path).unwrap();
    let names: Vec<&str> = federation
        .gateways()
        .iter()
        .map(|gateway| gateway.department.as_str())
        .collect();
    assert_eq!(names, ["bureau", "tax"]);
    assert!(federation.get("bureau").unwrap().neutral);
    assert!(!federation.get("tax").unwrap().neutral);
    assert!(federation.get("civil").is_none());
    assert_eq!(federation.line().round_trip_micros, 20_000);
    assert_eq!(federation.line().lanes, 4);
    assert_eq!(
        federation.line().bytes_per_second,
        Line::default().bytes_per_second
    );
    let path = write(folder.path(), "again.toml", &federation.to_toml());
    assert_eq!(Federation::load(&path).unwrap(), federation);
}

#[test]
fn federated_tables_name_gateways_with_data() {
    let folder = tempfile::tempdir().unwrap();
    let gateways = format!(
        "version = 1\n{}{}{}neutral = true\n",
        entry("north", 1, &key()),
        entry("south", 2, &key()),
        entry("bureau", 3, &key())
    );
    let declared = |name: &str, members: &str| {
        format!("[[federated_tables]]\nname = \"{name}\"\nmembers = {members}\n")
    };
    let good = declared("national.taxes", "[\"north.taxes\", \"south.tax_rows\"]");
    let path = write(folder.path(), FEDERATION_FILE, &format!("{gateways}{good}"));
    let federation = Federation::load(&path).unwrap();
    let [table] = federation.tables() else {
        panic!("one table");
    };
    assert_eq!(table.name(), "national.taxes");
    let members: Vec<String> = table
        .members()
        .iter()
        .map(|(d, t)| format!("{d}.{t}"))
        .collect();
    assert_eq!(members, ["north.taxes", "south.tax_rows"]);
    let again = write(folder.path(), "again.toml", &federation.to_toml());
    assert_eq!(Federation::load(&again).unwrap(), federation);
    let both = "[\"north.t\", \"south.t\"]";
    for (text, due) in [
        (
            declared("south.all", both),
            "`federated_tables[1].members`: south.all has a member in `south`",
        ),
        (
            declared("bureau.all", both),
            "`federated_tables[1].name`: a gateway's department is named `bureau` too",
        ),
        (
            declared("national.t", "[\"north.t\", \"east.t\"]"),
            "`federated_tables[1].members`: no gateway has the department `east`",
        ),
        (
            declared("national.t", "[\"north.t\", \"bureau.t\"]"),
            "`federated_tables[1].members`: bureau is neutral and has no tables",
        ),
        (
            declared("national.t", "[\"north.t\", \"north.t\"]"),
            "`federated_tables[1].members`: national.t has north.t twice",
        ),
        (
            declared("national.t", "[\"north.t\"]"),
            "`federated_tables[1].members`: national.t needs 2 to 64 members",
        ),
        (
            declared("national", both),
            "`federated_tables[1].members`: `national` is not `department.table`",
        ),
        (
            declared("national.t", "[1]"),
            "`federated_tables[1].members` must be a list of texts in quotes",
        ),
        (
            format!("{good}{good}"),
            "`federated_tables[2].name`: national.taxes is declared twice",
        ),
    ] {
        let path = write(folder.path(), FEDERATION_FILE, &format!("{gateways}{text}"));
        let mistakes = Federation::load(&path).unwrap_err().to_string();
        assert!(mistakes.contains(due), "{mistakes}\ninstead of {due}");
    }
}

#[test]
fn a_line_out_of_range_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "version = 1\n[line]\nround_trip_micros = 10000001\nmegabits_per_second = 0\nlanes = 65\n{}",
        entry("tax", 1, &key()),
    );
    let path = write(folder.path(), FEDERATION_FILE, &text);
    let mistakes = Federation::load(&path).unwrap_err().to_string();
    for due in [
        "line.round_trip_micros`: must be 0 to 10000000",
        "line.megabits_per_second`: must be 1 to 8000000",
        "line.lanes`: must be 1 to 16",
    ] {
        assert!(mistakes.contains(due), "{mistakes}");
    }
}

#[test]
fn gateways_that_cannot_be_told_apart_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (key(), key());
    let cases = [
        (
            entry("tax", 1, &one),
            entry("tax", 2, &other),
            10,
            "department",
        ),
        (
            entry("tax", 1, &one),
            entry("civil", 1, &other),
            11,
            "address",
        ),
        (
            entry("tax", 1, &one),
            entry("civil", 2, &one),
            12,
            "public_key",
        ),
    ];
    for (first, second, line, field) in cases {
        let path = write(
            folder.path(),
            FEDERATION_FILE,
            &format!("version = 1\n{first}\n{second}"),
        );
        let mistakes = Federation::load(&path).unwrap_err().to_string();
        let expected = format!("toml:{line}:1: `gateways[2].{field}`: tax has the same");
        assert!(mistakes.contains(&expected), "{mistakes}\n{expected}");
        let gateways = [first, second].map(|text| {
            let path = write(folder.path(), "one.toml", &format!("version = 1\n{text}"));
            Federation::load(&path).unwrap().gateways()[0].clone()
        });
        assert!(Federation::new(gateways.to_vec()).is_err());
    }
    let path = write(folder.path(), FEDERATION_FILE, "version = 1\n");
    assert!(Federation::load(&path).is_err());
}

#[test]
fn addresses() {
    for good in [
        "10.0.0.1:7070",
        "tax.example.org:1",
        "[::1]:7070",
        "localhost:65535",
    ] {
        check_address(good).unwrap();
    }
    for bad in [
        "",
        ":1",
        "tax",
        "tax:",
        "tax:0",
        "tax:65536",
        "::1:70",
        "[::g]:1",
        "a b:1",
        "http://a:1",
    ] {
        assert!(check_address(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_gateway_must_be_in_its_federation_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::generate("tax").unwrap();
    let own = identity.public_key().to_string();
    let analyst = key();
    let text = good();
    let start = text.find("ed25519:").unwrap();
    let text = format!("{}{analyst}\"\n", &text[..start]);
    let config = GatewayConfig::load(&write(folder.path(), GATEWAY_FILE, &text), &[]).unwrap();
    let load = |entries: &str| {
        write(
            folder.path(),
            FEDERATION_FILE,
            &format!("version = 1\n{entries}"),
        );
        config
            .load_federation(&identity)
            .map_err(|mistakes| mistakes.to_string())
    };
    load(&entry("tax", 1, &own)).unwrap();
    let missing = load(&entry("civil", 1, &key())).unwrap_err();
    assert!(missing.contains("has no gateway tax"), "{missing}");
    let other = load(&entry("tax", 1, &key())).unwrap_err();
    assert!(other.contains("another public_key"), "{other}");
    let shared = load(&(entry("tax", 1, &own) + &entry("civil", 2, &analyst))).unwrap_err();
    assert!(
        shared.contains("analyst zhang.wei and gateway civil"),
        "{shared}"
    );
}
