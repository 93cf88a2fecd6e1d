//! What the grammar of fragments lets through, and what not.
