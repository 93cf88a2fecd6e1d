# `just` lists what can be done here.
default:
    @just --list

# Format check, crate arrows, clippy.
check:
    cargo fmt --all --check
    .ci/arrows
    cargo clippy --workspace --all-targets -- -D warnings

# All tests.
test:
    cargo test --workspace

# Rewrite golden files and generated documents, then show what changed.
bless:
    VEILGATE_BLESS=1 INSTA_UPDATE=always cargo test --workspace
    git diff --stat

# One benchmark, for example `just bench query --rows 1000000`.
bench *ARGS:
    cargo run --release -p veilgate-benches -- {{ARGS}}

# What lands or rejects a change.
ci:
    .ci/run

# What clients of a gateway wait for, for example `just bench-clients trivial rows`.
bench-clients *ARGS:
    cargo build --release --bin veilgate
    target/tmp/clients/bin/python benches/clients/bench_clients.py target/release/veilgate {{ARGS}}
