//! F24: the syncer is killed with 10,000 objects.

use super::{Fill, each, fill, same, settings};
use anyhow::{Context, ensure};
use e2e::{
    kind::CONFIG_MAP,
    oracle,
    rig::{
        Rig, Wish,
        memory::{self, Memory},
        on_rig,
    },
    wait::{PODS, eventually},
};
use std::{sync::Arc, time::Instant};

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
        e2e::told!(
            "F24: converged {:.1} s after the start with 10,200 objects",
            began.elapsed().as_secs_f64()
        );
        starve(rig).await?;
        let began = Instant::now();
        rig.syncer.start().await?;
        oracle::pairs::agree(rig, guest).await?;
        e2e::told!(
            "F24: converged {:.1} s after the start, with the memory that it needs",
            began.elapsed().as_secs_f64()
        );
        oracle::all(rig).await
    });
}

/// The syncer is given half of the memory that it takes, and killed for that a few times, while the tenant is at work.
async fn starve(rig: &Rig) -> anyhow::Result<()> {
    let guest = &rig.tenants[0];
    let taken = memory::taken(rig.syncer.pid().context("the syncer runs")?)?;
    let memory = Arc::new(Memory::limited(taken / 2)?);
    let starving = rig.syncer.clone().within(&memory);
    for turn in 0..3 {
        starving.launch()?;
        each(0..50, async |number| {
            let object = settings("work1", &format!("starving{turn}-{number}"));
            guest.side.create(CONFIG_MAP, object).await?;
            let doomed = format!("o{}", 50 * turn + number);
            Ok(guest.side.delete(CONFIG_MAP, "work2", &doomed).await?)
        })
        .await?;
        eventually(PODS, "the syncer is killed for its memory", async || {
            ensure!(!starving.runs(), "it runs");
            Ok(())
        })
        .await?;
        same("kills", &memory.kills()?, &(turn as u64 + 1))?;
    }
    e2e::told!("F24: killed three times with {} MiB", (taken / 2) >> 20);
    Ok(())
}
