//! The one binary. Everything it does is in the library, so that tests start the same program.

fn main() -> std::process::ExitCode {
    veilgate::main()
}
