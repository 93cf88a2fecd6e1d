//! The append-only Merkle log of one gateway: tamper-evident without a blockchain.
