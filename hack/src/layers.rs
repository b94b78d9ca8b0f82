//! `cargo xtask layers`: each attack against each layer alone, and what came of it written into docs/attacks.md.
//!
//! No super cluster is needed: the test starts API servers of its own.

use anyhow::Result;

use crate::{binaries, cargo, packages, paths, run};

/// The one test that finds it out.
const TEST: &str = "isolation::layers::t5_to_t38_each_layer_holds_alone";

/// Runs the test and has it write the page.
pub(crate) fn renew() -> Result<()> {
    packages::ensure_for_building()?;
    binaries::hand_out(&["kube-apiserver", "kube-controller-manager", "etcd"])?;
    cargo::build_all()?;
    let mut test = cargo::command(&[
        "test",
        "--locked",
        "--workspace",
        "--test",
        "e2e",
        "--",
        "--include-ignored",
        "--exact",
        TEST,
    ]);
    test.env("UPDATE_EXPECT", "1");
    test.env("RUST_BACKTRACE", "0");
    test.env("RUST_LIB_BACKTRACE", "1");
    test.env("SUBLET_SYNCER", cargo::built("sublet-syncer")?);
    test.env("SUBLET_UNGUARDED_SYNCER", cargo::build_unguarded_syncer()?);
    test.env("SUBLET_PARTS", paths::handout().join("bin"));
    run::visibly(&mut test)?;
    say!("docs/attacks.md holds what came of it; read the difference");
    Ok(())
}
