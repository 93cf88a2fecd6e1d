//! Compiles the protos with protox, so that nobody installs protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = [
        "veilgate/plan/v1/plan.proto",
        "veilgate/peer/v1/peer.proto",
        "veilgate/analyst/v1/analyst.proto",
    ];
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(protos, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
