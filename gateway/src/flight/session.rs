//! Actions beside those of statements: session options, cancelling, the end of a session.
//!
//! The messages are those of `Flight.proto`; the library has only some of them.

use super::{Service, bad, result, unsupported};
use crate::queries::Session;
use arrow_flight::sql::{Any, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    Result as ActionResult,
};
use futures::stream::BoxStream;
use prost::Message;
use std::collections::HashMap;
use tonic::{Request, Status};
use veilgate_federated::planner::CATALOG;
use veilgate_federated::run::RunId;

/// Names and descriptions of what DoAction does.
pub(super) const ACTIONS: [(&str, &str); 7] = [
    ("CreatePreparedStatement", "Checks and plans a statement."),
    ("ClosePreparedStatement", "Forgets a prepared statement."),
    ("CancelFlightInfo", "Cancels a query on all gateways."),
    ("CancelQuery", "The same, as older clients ask for it."),
    (
        "SetSessionOptions",
        "Sets purpose and case for the session.",
    ),
    ("GetSessionOptions", "The options of the session."),
    ("CloseSession", "Ends the session and its queries."),
];

#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Number(f64),
    #[prost(message, tag = "5")]
    Texts(TextList),
}

#[derive(Clone, PartialEq, Message)]
struct TextList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    /// 1: no such option; 2: not such a value.
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseSessionResult {
    /// 1: closed.
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Service {
    /// An action that is none of the statements'.
    pub(super) async fn other_action(
        &self,
        request: Request<Action>,
    ) -> Result<BoxStream<'static, Result<ActionResult, Status>>, Status> {
        let session = self.session(&request).await?;
        let action = request.into_inner();
        let malformed = |_| bad("the action's body does not decode");
        match action.r#type.as_str() {
            "CancelFlightInfo" => {
                let asked = CancelFlightInfoRequest::decode(action.body).map_err(malformed)?;
                let info = asked.info.ok_or_else(|| bad("no FlightInfo to cancel"))?;
                self.cancel(&session, &info)?;
                let status = CancelStatus::Cancelled.into();
                Ok(result(CancelFlightInfoResult { status }.encode_to_vec()))
            }
            "SetSessionOptions" => {
                let asked = SetSessionOptionsRequest::decode(action.body).map_err(malformed)?;
                Ok(result(self.set_options(&session, asked).encode_to_vec()))
            }
            "GetSessionOptions" => {
                let options = session.options();
                let text = |text: &str| OptionValue {
                    value: (!text.is_empty()).then(|| Value::Text(text.to_owned())),
                };
                let all = [
                    ("catalog", text(CATALOG)),
                    ("purpose", text(&options.purpose)),
                    ("case", text(&options.case)),
                ];
                let session_options = all.map(|(name, value)| (name.to_owned(), value)).into();
                let result_of = GetSessionOptionsResult { session_options };
                Ok(result(result_of.encode_to_vec()))
            }
            "CloseSession" => {
                self.manager.close(&session);
                Ok(result(CloseSessionResult { status: 1 }.encode_to_vec()))
            }
            _ => Err(unsupported(
                "no such action: ListActions tells those there are",
            )),
        }
    }

    fn set_options(
        &self,
        session: &Session,
        asked: SetSessionOptionsRequest,
    ) -> SetSessionOptionsResult {
        let mut errors = HashMap::new();
        for (name, value) in asked.session_options {
            let text = match value.value {
                Some(Value::Text(text)) => Some(text),
                Some(Value::Integer(number)) => Some(number.to_string()),
                None => None,
                Some(_) => {
                    errors.insert(name, OptionError { value: 2 });
                    continue;
                }
            };
            // The one catalogue may be chosen, as some clients do.
            let refused = match name.as_str() {
                "catalog" => (text.as_deref() != Some(CATALOG)).then_some(2),
                _ if session.options().get(&name).is_err() => Some(1),
                _ => match self.manager.set_option(session, &name, text.as_deref()) {
                    Ok(()) => None,
                    Err(_) => Some(2),
                },
            };
            if let Some(value) = refused {
                errors.insert(name, OptionError { value });
            }
        }
        SetSessionOptionsResult { errors }
    }

    /// Cancels the query whose tickets are in this.
    pub(super) fn cancel(&self, session: &Session, info: &FlightInfo) -> Result<(), Status> {
        let ticket = info.endpoint.iter().find_map(|end| end.ticket.as_ref());
        let ticket = ticket.map(|ticket| &ticket.ticket);
        let handle = match ticket {
            Some(ticket) => ticket_handle(ticket)?,
            // Not done when it was polled last: the descriptor tells.
            None => {
                let cmd = info.flight_descriptor.as_ref().map(|of| &of.cmd);
                let handle = cmd.and_then(|cmd| super::poll::handle(cmd));
                handle.ok_or_else(|| bad("the FlightInfo is of no query"))?
            }
        };
        let query = self.manager.find(session, handle).map_err(super::status)?;
        query.cancel();
        Ok(())
    }
}

/// The number of the query that a ticket is for.
fn ticket_handle(ticket: &[u8]) -> Result<RunId, Status> {
    let foreign = || bad("the ticket is of no query");
    let any = Any::decode(ticket).map_err(|_| foreign())?;
    if any.type_url != TicketStatementQuery::type_url() {
        return Err(foreign());
    }
    let ticket = TicketStatementQuery::decode(any.value).map_err(|_| foreign())?;
    RunId::from_wire(&ticket.statement_handle).map_err(|_| foreign())
}
