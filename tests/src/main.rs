//! The `veilgate` binary once more, so that end-to-end tests find it as `CARGO_BIN_EXE_*`.

fn main() -> std::process::ExitCode {
    veilgate::main()
}
