//! How much a release is measured by. Figures of anything else would stand under the same titles in the results that the
//! repository keeps, and in the place of a release's: they are measured, but not kept.

use crate::scenario::{Extent, Scenario, Step};
use anyhow::ensure;

/// Tenants that are started.
pub(crate) const TENANTS: u32 = 10;
/// Pods of each tenant in a burst.
pub(crate) const BURST_PODS: usize = 200;
/// Pods of all tenants together, at a steady rate.
pub(crate) const STEADY_PODS: usize = 500;
/// Pods in a second, at a steady rate.
pub(crate) const RATE: u32 = 20;
/// Objects in `restart`; pods in `ceiling` and `reads`.
pub(crate) const OBJECTS: usize = 10_000;
/// Simulated tenants in `idle`.
pub(crate) const CROWD: usize = 500;
/// Tenants in `idle` that are real, as many as else or more: its figures say how many they are of.
const IDLE_TENANTS: [u32; 2] = [TENANTS, 50];

/// Refuses to keep what isn't of a release's extent.
pub(crate) fn judge(step: &Step, extent: &Extent) -> anyhow::Result<()> {
    let tenants: &[u32] = match (step.scenario, step.simulated) {
        (Scenario::Idle, None) => &IDLE_TENANTS,
        _ => &[TENANTS],
    };
    let real = u32::try_from(extent.tenants)?;
    ensure!(
        tenants.contains(&real),
        "{:?} with --tenants {real} isn't kept: a release has it with {tenants:?}",
        step.scenario
    );
    if let Some(simulated) = step.simulated {
        ensure!(
            simulated == CROWD,
            "--simulated {simulated} isn't kept: a release has it with {CROWD}"
        );
    }
    let rate = (usize::try_from(extent.rate)?, usize::try_from(RATE)?);
    for (flag, given, wanted) in [
        ("--burst-pods", extent.burst_pods, BURST_PODS),
        ("--steady-pods", extent.steady_pods, STEADY_PODS),
        ("--rate", rate.0, rate.1),
        ("--objects", extent.objects, OBJECTS),
    ] {
        ensure!(
            given == wanted,
            "what is measured with {flag} {given} isn't kept: a release has it with {wanted}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pod::Tokens, scenario::RELEASE};

    fn extent() -> Extent {
        Extent {
            tenants: 10,
            rounds: 3,
            burst_pods: BURST_PODS,
            steady_pods: STEADY_PODS,
            rate: RATE,
            objects: OBJECTS,
            given: None,
        }
    }

    fn step(scenario: Scenario, simulated: Option<usize>) -> Step {
        Step {
            scenario,
            tokens: Tokens::Off,
            simulated,
        }
    }

    fn refused(step: &Step, extent: &Extent) -> String {
        judge(step, extent).unwrap_err().to_string()
    }

    #[test]
    fn all_that_a_release_is_measured_by_is_kept() {
        for step in RELEASE {
            judge(step, &extent()).unwrap();
        }
    }

    #[test]
    fn figures_of_another_extent_are_not_kept() {
        let burst = step(Scenario::Burst, None);
        let few_pods = Extent {
            burst_pods: 20,
            ..extent()
        };
        let why = refused(&burst, &few_pods);
        assert!(
            why.contains("--burst-pods 20") && why.contains("200"),
            "{why}"
        );
        let few_objects = Extent {
            objects: 100,
            ..extent()
        };
        refused(&step(Scenario::Reads, None), &few_objects);
        let five = Extent {
            tenants: 5,
            ..extent()
        };
        let why = refused(&burst, &five);
        assert!(why.contains("--tenants 5"), "{why}");
    }

    #[test]
    fn idle_tenants_are_kept_in_three_numbers() {
        let (real, crowd) = (step(Scenario::Idle, None), step(Scenario::Idle, Some(500)));
        let fifty = Extent {
            tenants: 50,
            ..extent()
        };
        judge(&real, &extent()).unwrap();
        judge(&real, &fifty).unwrap();
        judge(&crowd, &extent()).unwrap();
        refused(&step(Scenario::Idle, Some(100)), &extent());
        refused(&step(Scenario::Burst, None), &fifty);
    }
}
