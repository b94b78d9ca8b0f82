//! Prints the CustomResourceDefinitions as YAML: Sublet's own or, with the argument `cluster-api`, those of the Cluster API
//! provider. `cargo xtask crds` writes them to `manifests`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let crds = match std::env::args().nth(1).as_deref() {
        None => api::crds(),
        Some("cluster-api") => api::capi::crds(),
        Some(other) => return Err(format!("there are no definitions of {other}").into()),
    };
    println!("# Generated from the crate `api` by `cargo xtask crds`; do not edit.");
    for crd in crds {
        print!("---\n{}", serde_saphyr::to_string(&crd)?);
    }
    Ok(())
}
