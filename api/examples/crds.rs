//! Prints the CustomResourceDefinitions as YAML; `cargo xtask crds` writes them to `manifests/crds.yaml`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("# Generated from the crate `api` by `cargo xtask crds`; do not edit.");
    for crd in api::crds() {
        print!("---\n{}", serde_saphyr::to_string(&crd)?);
    }
    Ok(())
}
