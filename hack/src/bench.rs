//! `cargo xtask bench`: builds the syncer as its image holds it, and lets the load program measure.

use std::ffi::OsString;

use anyhow::Result;

use crate::{binaries, images, paths, run};

/// Runs the load program, `bench` of the crate `e2e`, with these arguments.
pub(crate) fn measure(arguments: &[OsString]) -> Result<()> {
    binaries::hand_out(&["kube-apiserver", "kube-controller-manager", "etcd"])?;
    images::build_as_in_images(&["--package", "e2e", "--bin", "bench"])?;
    let mut load = run::command(images::binary("bench")?, arguments);
    load.current_dir(paths::repository())
        .env("SUBLET_PARTS", paths::handout().join("bin"));
    // Another syncer, or another build of it, may be named by the caller.
    if std::env::var_os("SUBLET_SYNCER").is_none() {
        load.env("SUBLET_SYNCER", images::binary("sublet-syncer")?);
    }
    run::visibly(&mut load)
}
