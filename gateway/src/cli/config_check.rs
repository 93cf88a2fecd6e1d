//! `veilgate config check`: loads everything that a gateway loads, and explains every mistake.

use super::print;
use crate::config::{Federation, GatewayConfig, Mistakes, environment};
use crate::users::UsersFile;
use std::fmt::Write as _;
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::{catalog, policy};

/// Checks the configuration in `file` and all files that it names.
///
/// # Errors
/// `BadConfig` with every mistake of every file.
pub fn run(file: &Path) -> Result<()> {
    let (mut report, mistakes) = check(file, &environment());
    if mistakes.is_empty() {
        report.push_str("No mistakes.\n");
        return print(&report);
    }
    print(&report)?;
    let count = mistakes.lines().len();
    let plural = if count == 1 { "" } else { "s" };
    Err(Error::new(
        Code::BadConfig,
        format!("{count} mistake{plural}\n{mistakes}"),
    ))
}

/// What was found good, and every mistake.
fn check(file: &Path, overrides: &[(String, String)]) -> (String, Mistakes) {
    let mut report = String::new();
    let mut mistakes = Mistakes::default();
    let config = match GatewayConfig::load(file, overrides) {
        Ok(config) => config,
        // Where the other files are is not known for certain.
        Err(found) => return (report, found),
    };
    let _ = writeln!(
        report,
        "{}: gateway of {}, {} analyst(s), listens on {}",
        file.display(),
        config.department,
        config.analysts.len(),
        config.listen
    );
    let federation = match config.load_identity() {
        Ok(identity) => {
            let key = identity.public_key();
            let _ = writeln!(report, "{}: {key}", config.identity.display());
            config.load_federation(&identity)
        }
        Err(error) => {
            mistakes.push(error.message);
            Federation::load(&config.federation)
        }
    };
    let federation = match federation {
        Ok(federation) => {
            let count = federation.gateways().len();
            let neutral = federation
                .gateways()
                .iter()
                .filter(|gateway| gateway.neutral);
            let _ = writeln!(
                report,
                "{}: {count} gateway(s), {} neutral",
                config.federation.display(),
                neutral.count()
            );
            Some(federation)
        }
        Err(found) => {
            mistakes.extend(found);
            None
        }
    };
    if let Err(error) = config.load_clients() {
        mistakes.push(error.message);
    }
    if let Some(file) = &config.users {
        match UsersFile::load(file) {
            Ok(users) => {
                let tokens: usize = users.users.iter().map(|user| user.tokens.len()).sum();
                let count = users.users.len();
                let file = file.display();
                let _ = writeln!(report, "{file}: {count} user(s), {tokens} token(s)");
            }
            Err(found) => mistakes.extend(found),
        }
    }
    if let Some(folder) = &config.data {
        check_data(
            folder,
            &config,
            federation.as_ref(),
            &mut report,
            &mut mistakes,
        );
    }
    (report, mistakes)
}

fn check_data(
    folder: &Path,
    config: &GatewayConfig,
    federation: Option<&Federation>,
    report: &mut String,
    mistakes: &mut Mistakes,
) {
    let catalog = catalog::file::load(folder).map_err(|error| mistakes.push(error.message));
    if let Ok(catalog) = &catalog {
        let tables = &catalog.published.tables;
        let columns: usize = tables.iter().map(|table| table.columns.len()).sum();
        let file = folder.join(catalog::file::FILE_NAME);
        let file = file.display();
        let _ = writeln!(
            report,
            "{file}: {} table(s), {columns} columns",
            tables.len()
        );
        if catalog.published.department != config.department {
            mistakes.push(format!(
                "{file}: is of department {}, the gateway of {}",
                catalog.published.department, config.department
            ));
        }
        for source in &catalog.sources {
            if !source.path.exists() {
                mistakes.push(format!("{file}: there is no {}", source.path.display()));
            }
        }
    }
    // What does not go together with the catalogue is told beside what is wrong in itself.
    let policy = match &catalog {
        Ok(catalog) => policy::file::load_with_mistakes(folder, &catalog.published),
        Err(()) => policy::file::load(folder).map(|policy| (policy, Vec::new())),
    };
    let (policy, against) = match policy {
        Ok(found) => found,
        Err(error) => return mistakes.push(error.message),
    };
    for mistake in against {
        mistakes.push(mistake.message);
    }
    let file = folder.join(policy::file::FILE_NAME);
    let file = file.display();
    let _ = writeln!(report, "{file}: {} rule(s)", policy.rules.len());
    let Some(federation) = federation else {
        return;
    };
    let sets = policy.computing.iter().flatten();
    let recipients = policy.rules.iter().flat_map(|rule| &rule.recipients);
    let mut unknown: Vec<&String> = sets
        .chain(recipients)
        .filter(|department| federation.get(department).is_none())
        .collect();
    unknown.sort();
    unknown.dedup();
    for department in unknown {
        mistakes.push(format!(
            "{file}: names {department}, which {} does not have",
            config.federation.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::InitArgs;
    use super::*;
    use crate::config::{FEDERATION_FILE, GATEWAY_FILE};
    use std::path::PathBuf;

    /// A gateway of `tax` with one table and a policy.
    fn gateway(folder: &Path) -> PathBuf {
        let dir = folder.join("gw");
        super::super::init::run(&InitArgs {
            dir: dir.clone(),
            department: "tax".into(),
            listen: "127.0.0.1:7070".into(),
            neutral: false,
        })
        .unwrap();
        std::fs::write(dir.join("data/income.csv"), "person_id,amount\nA,1\n").unwrap();
        std::fs::write(
            dir.join("data/catalog.toml"),
            "version = 1\ndepartment = \"tax\"\n\n[[tables]]\nname = \"income\"\n\
             source = \"income.csv\"\nkey = [\"person_id\"]\nunit = \"person_id\"\nmax_rows = 10\n\n\
             [[tables.columns]]\nname = \"person_id\"\ntype = \"utf8\"\n\n\
             [[tables.columns]]\nname = \"amount\"\ntype = \"int64\"\n",
        )
        .unwrap();
        std::fs::write(
            dir.join("data/policy.toml"),
            "version = 1\ndepartment = \"tax\"\ncomputing = []\n\n\
             [tables.income.columns.person_id]\nlevel = \"L2\"\n\
             allow = [{ use = \"join_key\", k = 5, leakage = \"sizes\" }]\n",
        )
        .unwrap();
        dir
    }

    #[test]
    fn a_good_gateway_has_no_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let dir = gateway(folder.path());
        let (report, mistakes) = check(&dir.join(GATEWAY_FILE), &[]);
        assert!(mistakes.is_empty(), "{mistakes}");
        for part in [
            "gateway of tax",
            "1 table(s), 2 columns",
            "1 rule(s)",
            "users.toml: 0 user(s), 0 token(s)",
            "ed25519:",
        ] {
            assert!(report.contains(part), "{part} in {report}");
        }
    }

    /// The policy of [`gateway`] asks for k = 5 of a table of which nobody is counted.
    #[test]
    fn a_threshold_without_a_unit_is_a_mistake_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let dir = gateway(folder.path());
        let path = dir.join("data/catalog.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replace("unit = \"person_id\"", "unit = \"none\""),
        )
        .unwrap();
        let (_, mistakes) = check(&dir.join(GATEWAY_FILE), &[]);
        let text = mistakes.to_string();
        for part in [
            "policy.toml, line 7, column 34: rule tax.income.person_id/join_key asks for k = 5",
            "table tax.income has unit = \"none\"",
            "write there unit = \"person_id\"",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        let error = run(&dir.join(GATEWAY_FILE)).unwrap_err();
        assert_eq!(error.blame().exit_code(), 64);
        // A gateway that starts refuses in the same words.
        let catalog = catalog::file::load(&dir.join("data")).unwrap();
        let error = policy::file::load_for(&dir.join("data"), &catalog.published).unwrap_err();
        assert_eq!((error.code, error.blame().exit_code()), (Code::NoUnit, 64));
    }

    #[test]
    fn mistakes_of_all_files_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = gateway(folder.path());
        let replace = |name: &str, from: &str, to: &str| {
            let path = dir.join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{name}: {from}");
            std::fs::write(path, text.replace(from, to)).unwrap();
        };
        replace(FEDERATION_FILE, "operator", "oprator");
        replace("data/catalog.toml", "max_rows", "max_row");
        replace("data/policy.toml", "join_key", "joinkey");
        std::fs::set_permissions(
            dir.join("identity.pem"),
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
        replace("users.toml", "version", "vversion");
        let (_, mistakes) = check(&dir.join(GATEWAY_FILE), &[]);
        let text = mistakes.to_string();
        for part in [
            "chmod 600",
            "unknown field `gateways[1].oprator`; did you mean `operator`?",
            "catalog.toml",
            "policy.toml",
            "unknown field `vversion`",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
        let error = run(&dir.join(GATEWAY_FILE)).unwrap_err();
        assert_eq!(error.blame().exit_code(), 64);
    }
}
