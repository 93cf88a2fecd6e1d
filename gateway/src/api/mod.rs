//! The gRPC services: decode, call the session, encode. No decision is made here but who may call.

mod analyst;
mod peer;

pub(crate) use analyst::AnalystService;
pub(crate) use peer::PeerService;

use crate::errors;
use crate::tls::{Caller, Connection};
use tonic::{Request, Status};
use veilgate_federated::error::{Code, Error};

/// The department of the calling gateway, from its certificate.
fn gateway<T>(request: &Request<T>) -> Result<String, Status> {
    match caller(request) {
        Some(Caller::Gateway(department)) => Ok(department.clone()),
        _ => Err(errors::to_status(&Error::new(
            Code::WrongIdentity,
            "this service is for the gateways of the federation alone",
        ))),
    }
}

fn caller<T>(request: &Request<T>) -> Option<&Caller> {
    let connection = request.extensions().get::<Connection>();
    connection.map(|connection| &connection.caller)
}

fn status(error: Error) -> Status {
    errors::to_status(&error)
}
