//! Data connections as gRPC streams, for gateways that nothing but HTTP/2 reaches.
//!
//! One stream carries one direction of one run and thread, on an HTTP/2 connection of its own. What it
//! carries is sealed end to end (`seal`) under keys that only the two gateways of the run can derive, so
//! that whoever ends TLS on the way learns sizes and times alone, and can neither change, repeat,
//! reorder nor cut off anything unnoticed. The ends are a [`WriteHalf`](veilgate_mpc::net::stream::WriteHalf)
//! and a [`ReadHalf`](veilgate_mpc::net::stream::ReadHalf), as those of a direct connection are; deadlines,
//! back pressure, digests and counting are the link's.
//!
//! Knows nothing of what is carried.

mod seal;
mod stream;

pub(crate) use seal::{Sealing, key};
pub(crate) use stream::{Carried, CarryRead, accept, dial};
