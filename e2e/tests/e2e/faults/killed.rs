//! F24: the syncer is killed with 10,000 objects.

use super::{Fill, each, fill, settings};
use e2e::{
    kind::CONFIG_MAP,
    oracle,
    rig::{Wish, on_rig},
};
use std::time::Instant;

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn f24_a_syncer_that_is_killed_with_10000_objects_finds_everything_again() {
    on_rig(Wish::default(), async |rig| {
        for part in 0..10 {
            fill(rig, 0, &format!("work{part}"), 1000, Fill::ConfigMaps).await?;
        }
        oracle::pairs::agree(rig, &rig.tenants[0]).await?;
        let guest = &rig.tenants[0];
        // Killed in the middle of work, and with more to come.
        each(0..200, async |number| {
            let object = settings("work0", &format!("late{number}"));
            guest.side.create(CONFIG_MAP, object).await?;
            if number == 100 {
                rig.syncer.kill();
            }
            Ok(())
        })
        .await?;
        let began = Instant::now();
        rig.syncer.start().await?;
        oracle::pairs::agree(rig, guest).await?;
        println!(
            "F24: converged {:.1} s after the start with 10,200 objects",
            began.elapsed().as_secs_f64()
        );
        oracle::all(rig).await
    });
}
