//! Who a call comes from.
//!
//! A pinned key says it by itself. A guest shows a password once, in the handshake, and from then on the
//! token that it was given; or a token of the users file.

use super::options::{Key, Options};
use super::{QueryManager, options};
use crate::session::Asker;
use crate::tls::{Caller, Connection};
use crate::users::{Listed, Role, SESSION_PREFIX, Sessions, digest};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::time::Instant;
use tonic::metadata::MetadataMap;
use veilgate_federated::error::{Code, Error, Result};
use zeroize::Zeroizing;

/// Some clients pad, some do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Header of the purpose of one call.
const PURPOSE: &str = "x-veilgate-purpose";
/// Header of the case number of one call.
const CASE: &str = "x-veilgate-case";

/// What is known of whoever makes a call.
#[derive(Clone)]
pub(crate) struct Session {
    /// `name@department`.
    pub(crate) analyst: String,
    /// Whether they may ask joint queries.
    asks: bool,
    /// Whether they may see what others asked.
    pub(crate) auditor: bool,
    /// The connection of the call.
    pub(crate) connection: Connection,
    key: Key,
    /// Of the session, with those of the call.
    options: Options,
    /// The token of a login.
    token: Option<Zeroizing<String>>,
}

impl Session {
    /// Who asks and for what.
    pub(crate) fn asker(&self) -> Asker {
        Asker {
            analyst: self.analyst.clone(),
            purpose: self.options.purpose.clone(),
            case: self.options.case.clone(),
        }
    }

    /// Whether they may ask joint queries.
    ///
    /// # Errors
    /// `WrongIdentity` for a user without the role of an analyst.
    pub(crate) fn may_ask(&self) -> Result<()> {
        match self.asks {
            true => Ok(()),
            false => Err(Error::new(
                Code::WrongIdentity,
                "you may look at the gateway's own views: joint queries need the role `analyst`",
            )),
        }
    }

    /// Says what the answer of one call is for; what is empty stays as it is.
    ///
    /// # Errors
    /// `BadRequest` for what is too long.
    pub(crate) fn say(&mut self, purpose: &str, case: &str) -> Result<()> {
        for (name, value) in [("purpose", purpose), ("case", case)] {
            if !value.is_empty() {
                self.options.set(name, Some(value))?;
            }
        }
        Ok(())
    }

    /// The options that count for this call.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }
}

/// Name, whether they are an analyst and an auditor, and the token of a login.
type Guest = (String, bool, bool, Option<Zeroizing<String>>);

impl QueryManager {
    /// Who makes a call with this metadata over this connection.
    ///
    /// # Errors
    /// `WrongCredentials` for a guest without a valid token; `WrongIdentity` for a gateway, or a user who
    /// may not ask.
    pub(crate) async fn session(
        &self,
        metadata: &MetadataMap,
        connection: Option<&Connection>,
    ) -> Result<Session> {
        let connection = connection
            .cloned()
            .ok_or_else(|| Error::new(Code::Internal, "a call over no connection"))?;
        let (name, asks, auditor, token) = match &connection.caller {
            Caller::Analyst(name) => (name.clone(), true, false, None),
            Caller::Gateway(_) => {
                return Err(Error::new(
                    Code::WrongIdentity,
                    "this service is for the analysts of this gateway alone",
                ));
            }
            Caller::Guest => self.guest(metadata)?,
        };
        let login = token.as_ref().and_then(|token| digest(token));
        let key = match login {
            Some(login) => Key::Login(login),
            None => Key::Connection(connection.number),
        };
        if let Some(token) = &token {
            self.enter(token, &connection);
        }
        let mut options = self.options.of(&key);
        for (header, name) in [(PURPOSE, "purpose"), (CASE, "case")] {
            if let Some(value) = metadata.get(header) {
                let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
                    Error::new(
                        Code::BadRequest,
                        format!("the header {header} is not UTF-8"),
                    )
                })?;
                options.set(name, Some(value))?;
            }
        }
        Ok(Session {
            analyst: format!("{name}@{}", self.node.department),
            asks,
            auditor,
            connection,
            key,
            options,
            token,
        })
    }

    /// Notes that a session goes over this connection, until that ends.
    fn enter(&self, token: &str, connection: &Connection) {
        let logins = self.logins.as_ref();
        let entered = logins.and_then(|of| Some((of.clone(), of.enter(token, connection.number)?)));
        if let Some((logins, session)) = entered {
            let connection = connection.clone();
            tokio::spawn(async move {
                connection.ended.cancelled().await;
                logins.leave(&session, connection.number);
            });
        }
    }

    /// Checks the password in a handshake's metadata, and gives the token to be shown from then on.
    ///
    /// # Errors
    /// `WrongCredentials`, after a while.
    pub(crate) async fn handshake(&self, metadata: &MetadataMap) -> Result<Zeroizing<String>> {
        let credentials = authorization(metadata)?
            .and_then(|text| strip_word(text, "basic"))
            .and_then(|text| BASE64.decode(text.trim()).ok())
            .map(Zeroizing::new)
            .ok_or_else(|| wrong("the handshake wants a user and a password"))?;
        let credentials = std::str::from_utf8(&credentials)
            .ok()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| wrong("the handshake wants a user and a password"))?;
        self.login(credentials.0, credentials.1).await
    }

    /// A token for a user's password, to be shown from then on.
    ///
    /// # Errors
    /// `WrongCredentials`, after a while.
    pub(crate) async fn login(&self, user: &str, password: &str) -> Result<Zeroizing<String>> {
        let logins = self.logins()?;
        let user = logins.users().login(user, password).await?;
        logins.issue(&user)
    }

    /// Ends a session: its token and options are forgotten, its queries cancelled.
    pub(crate) fn close(&self, session: &Session) {
        self.options.close(&session.key);
        if let (Some(token), Some(logins)) = (&session.token, &self.logins) {
            logins.revoke(token);
        }
        for query in self.remembered(session) {
            if query.session.as_ref() == Some(&session.key) {
                query.cancel();
            }
        }
    }

    /// Forgets the sessions that have ended.
    pub(super) fn forget_sessions(&self) {
        if let Some(logins) = &self.logins {
            for session in logins.sweep(Instant::now()) {
                self.options.close(&Key::Login(session));
            }
        }
    }

    /// Who is logged in: one's own sessions, or everybody's for an auditor.
    pub(super) fn listed(&self, session: &Session) -> Vec<Listed> {
        let mut list = self.logins.as_ref().map(Sessions::list).unwrap_or_default();
        for listed in &mut list {
            listed.name = format!("{}@{}", listed.name, self.node.department);
        }
        list.retain(|listed| session.auditor || listed.name == session.analyst);
        list
    }

    /// Sets an option for the rest of a session.
    ///
    /// # Errors
    /// As [`Options::set`].
    pub(crate) fn set_option(
        &self,
        session: &Session,
        name: &str,
        value: Option<&str>,
    ) -> Result<()> {
        options::Table::set(&self.options, &session.key, name, value)
    }

    /// Name, whether they are an analyst and an auditor, and the token of a login.
    fn guest(&self, metadata: &MetadataMap) -> Result<Guest> {
        let token = authorization(metadata)?
            .and_then(|text| strip_word(text, "bearer"))
            .map(str::trim)
            .ok_or_else(|| wrong("log in with user and password, or show a token"))?;
        let user = self.logins()?.bearer(token)?;
        let login = token.starts_with(SESSION_PREFIX);
        Ok((
            user.name().to_owned(),
            user.has(Role::Analyst),
            user.has(Role::Auditor),
            login.then(|| Zeroizing::new(token.to_owned())),
        ))
    }

    fn logins(&self) -> Result<&Sessions> {
        self.logins.as_ref().ok_or_else(|| {
            wrong("this gateway has no users file: analysts connect with their pinned key")
        })
    }
}

impl Session {
    /// Of which session queries are.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

fn wrong(what: &str) -> Error {
    Error::new(Code::WrongCredentials, what)
}

fn authorization(metadata: &MetadataMap) -> Result<Option<&str>> {
    let value = metadata.get("authorization");
    value
        .map(|value| value.to_str())
        .transpose()
        .map_err(|_| wrong("the authorization header is not text"))
}

/// The rest of a header after its scheme, whatever the case of that.
fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_once(' ')?;
    first.eq_ignore_ascii_case(word).then_some(rest)
}
