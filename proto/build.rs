//! Compiles the protos with protox, so that nobody installs protoc.

use prost::Message;

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
    // What server reflection tells: the services of analysts alone.
    let public = protox::compile(["veilgate/analyst/v1/analyst.proto"], ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("analyst.bin"), public.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
