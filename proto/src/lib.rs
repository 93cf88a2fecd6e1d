//! Wire types of Veilgate, generated from `proto/veilgate`. Nothing here validates: domain types
//! are built from these by `TryFrom` in the crates that own them.
#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]

/// Joint plans.
pub mod plan {
    pub mod v1 {
        tonic::include_proto!("veilgate.plan.v1");
    }
}
/// Gateway to gateway.
pub mod peer {
    pub mod v1 {
        tonic::include_proto!("veilgate.peer.v1");
    }
}
/// Analysts and researchers.
pub mod analyst {
    pub mod v1 {
        tonic::include_proto!("veilgate.analyst.v1");

        /// Its descriptors, for server reflection.
        pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/analyst.bin"));
    }
}
