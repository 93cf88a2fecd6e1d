//! `veilgate init`: the identity and the files of a new gateway, and what to tell the others.

use super::args::InitArgs;
use super::print;
use crate::config::{FEDERATION_FILE, Federation, GATEWAY_FILE, Gateway};
use crate::identity::{Identity, check_department};
use crate::users::{USERS_FILE, edit};
use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};

const IDENTITY: &str = "identity.pem";
const ANALYST: &str = "analyst.pem";
const DATA: &str = "data";
const STATE: &str = "state";

/// Makes everything, or says what is in the way and makes nothing.
///
/// # Errors
/// `BadRequest` for a name or address that is none, or files that exist already.
pub fn run(args: &InitArgs) -> Result<()> {
    check_department(&args.department)
        .map_err(|what| Error::new(Code::BadRequest, format!("--department: {what}")))?;
    let dir = &args.dir;
    let mut names = vec![GATEWAY_FILE, FEDERATION_FILE, IDENTITY];
    if !args.neutral {
        names.extend([ANALYST, USERS_FILE]);
    }
    if let Some(name) = names.iter().find(|name| dir.join(name).exists()) {
        return Err(Error::new(
            Code::BadRequest,
            format!(
                "{} exists already; nothing was changed. Choose another folder, or remove it \
                 yourself if this gateway's identity may be lost",
                dir.join(name).display()
            ),
        ));
    }
    let (address, reachable) = public_address(&args.listen)?;
    let identity = Identity::generate(&args.department)?;
    let own = Gateway {
        department: args.department.clone(),
        address,
        public_key: identity.public_key(),
        operator: args.department.clone(),
        host: host_name(),
        neutral: args.neutral,
        data_over_grpc: false,
    };
    let federation = Federation::new(vec![own.clone()])?;
    let analyst = if args.neutral {
        None
    } else {
        Some(Identity::generate("analyst")?)
    };

    make(dir)?;
    make(&dir.join(STATE))?;
    identity.save(&dir.join(IDENTITY))?;
    if let Some(analyst) = &analyst {
        make(&dir.join(DATA))?;
        analyst.save(&dir.join(ANALYST))?;
        edit(&dir.join(USERS_FILE), |_| Ok(()))?;
    }
    write(&dir.join(FEDERATION_FILE), &federation.to_toml())?;
    write(
        &dir.join(GATEWAY_FILE),
        &gateway_toml(args, analyst.as_ref()),
    )?;
    print(&summary(dir, &own, analyst.is_some(), reachable))
}

fn gateway_toml(args: &InitArgs, analyst: Option<&Identity>) -> String {
    let mut text = format!(
        "# The gateway of {department}. `veilgate config check {GATEWAY_FILE}` explains mistakes.\n\
         # Any value can be overridden: VEILGATE__LIMITS__MEMORY_MIB=4096 sets memory_mib in [limits].\n\
         version = 1\n\
         department = \"{department}\"\n\
         listen = \"{listen}\"\n\
         \n\
         # Paths are relative to this file.\n\
         identity = \"{IDENTITY}\"          # the private key; mode 0600, never leaves this machine\n\
         federation = \"{FEDERATION_FILE}\"   # the other gateways\n\
         state = \"{STATE}\"                # the ledger, and what must survive a restart\n",
        department = args.department,
        listen = args.listen,
    );
    if analyst.is_some() {
        let _ = writeln!(
            text,
            "data = \"{DATA}\"                  # catalog.toml, policy.toml and the tables\n\
             users = \"{USERS_FILE}\"           # who logs in with a password or a token: `veilgate user`"
        );
    }
    text.push_str(
        "\n[limits]\n\
         memory_mib = 2048      # for one run\n\
         traffic_mib = 65536    # of all gateways together, for one run\n\
         max_runs = 8           # at the same time\n\
         run_seconds = 600\n\
         peer_seconds = 8       # the longest silence of another gateway during a run\n",
    );
    if let Some(analyst) = analyst {
        let _ = write!(
            text,
            "\n# Who may ask queries at this gateway.\n[[analysts]]\nname = \"{}\"\npublic_key = \"{}\"\n",
            analyst.name(),
            analyst.public_key()
        );
    }
    text
}

fn summary(dir: &Path, own: &Gateway, data: bool, reachable: bool) -> String {
    let mut text = format!(
        "Made the gateway of {} in {}.\n\n\
         Give this entry to the operators of the other gateways, for their {FEDERATION_FILE}, and\n\
         add theirs to yours. Compare the keys over a second channel, for example by telephone.\n\n{}\n",
        own.department,
        dir.display(),
        own.to_toml()
    );
    if !reachable {
        text.push_str(
            "The address is a guess from this machine's name: write the one that others reach.\n\n",
        );
    }
    text.push_str("Next:\n");
    if data {
        let _ = writeln!(
            text,
            "  put tables, catalog.toml and policy.toml into {}",
            dir.join(DATA).display()
        );
    }
    let file = dir.join(GATEWAY_FILE);
    let _ = writeln!(text, "  veilgate config check {}", file.display());
    let _ = writeln!(text, "  veilgate gateway --config {}", file.display());
    text
}

/// The address that others use, and whether it is more than a guess.
fn public_address(listen: &str) -> Result<(String, bool)> {
    if let Ok(address) = listen.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(Error::new(
                Code::BadRequest,
                "--listen needs a port that others can know, not 0",
            ));
        }
        if !address.ip().is_unspecified() {
            return Ok((listen.to_owned(), true));
        }
        return Ok((format!("{}:{}", host_name(), address.port()), false));
    }
    crate::config::check_address(listen)
        .map_err(|what| Error::new(Code::BadRequest, format!("--listen {what}")))?;
    Ok((listen.to_owned(), true))
}

/// This machine's name, as far as it can be a host's.
fn host_name() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    let fine = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if fine { name } else { "localhost" }.to_owned()
}

fn make(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| unwritable(dir, &error))
}

fn write(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("{} cannot be written: {}", path.display(), error.kind()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GatewayConfig;

    fn args(dir: &Path, listen: &str, neutral: bool) -> InitArgs {
        InitArgs {
            dir: dir.join("gw"),
            department: "tax".into(),
            listen: listen.into(),
            neutral,
        }
    }

    #[test]
    fn what_init_makes_loads() {
        for neutral in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let args = args(folder.path(), "127.0.0.1:7070", neutral);
            run(&args).unwrap();
            let config = GatewayConfig::load(&args.dir.join(GATEWAY_FILE), &[]).unwrap();
            assert_eq!(config.department, "tax");
            assert_eq!(config.data.is_some(), !neutral);
            assert_eq!(config.analysts.len(), usize::from(!neutral));
            assert_eq!(config.users.is_some(), !neutral);
            if let Some(users) = &config.users {
                crate::users::Users::open(users).unwrap();
            }
            let identity = config.load_identity().unwrap();
            let federation = config.load_federation(&identity).unwrap();
            assert_eq!(federation.get("tax").unwrap().neutral, neutral);
            if !neutral {
                let analyst = Identity::load("analyst", &args.dir.join(ANALYST)).unwrap();
                assert_eq!(config.analysts[0].public_key, analyst.public_key());
            }
            let again = run(&args).unwrap_err();
            assert_eq!(again.code, Code::BadRequest);
            assert_eq!(
                config.load_identity().unwrap().public_key(),
                identity.public_key()
            );
        }
    }

    #[test]
    fn addresses_that_nobody_can_dial_are_not_published() {
        assert_eq!(
            public_address("10.0.0.1:7070").unwrap(),
            ("10.0.0.1:7070".into(), true)
        );
        let (guess, reachable) = public_address("0.0.0.0:7070").unwrap();
        assert!(!reachable && guess.ends_with(":7070") && !guess.starts_with("0.0.0.0"));
        for bad in ["7070", "tax:port", "0.0.0.0:0", ""] {
            assert_eq!(
                public_address(bad).unwrap_err().code,
                Code::BadRequest,
                "{bad}"
            );
        }
    }
}
