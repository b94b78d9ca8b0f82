//! Keeps what a load program measures, if that is asked for.

use super::{
    machine, numbers,
    others::{self, Others, With},
    results,
};
use serde_json::{Value, json};
use std::path::Path;

/// A measurement that has begun and is to be kept.
pub struct Keeper {
    origin: Value,
    others: Others,
}

impl Keeper {
    /// Begins one of so many rounds, `with` what it measures beside this program and its children. It runs in the root of the
    /// repository.
    ///
    /// # Errors
    /// The rounds are too few, the sources aren't a clone of the repository, or no cluster runs that is to be measured.
    pub fn begin(with: With, rounds: u32) -> anyhow::Result<Self> {
        results::judge_rounds(rounds)?;
        Ok(Self {
            origin: results::origin(Path::new(""), &machine::describe()?)?,
            others: Others::watch(with)?,
        })
    }

    /// Ends it, and keeps the figures of some scenarios: name, tenants, figures.
    ///
    /// # Errors
    /// Others used too much of the machine meanwhile, or docs/bench can't be written.
    pub fn keep(self, measured: Vec<(&str, usize, Value)>) -> anyhow::Result<()> {
        let share = numbers::round(self.others.share()?);
        for (scenario, tenants, figures) in measured {
            // What isn't measured without tokens, too: pods of a cluster have them.
            let one = json!({
                "scenario": scenario, "tokens": "on", "tenants": tenants, "figures": figures, others::FIELD: share,
            });
            others::judge(&one)?;
            results::keep(Path::new(""), &self.origin, &one)?;
        }
        Ok(())
    }
}
