//! Metrics as text: what was counted, and gauges that are read when somebody asks for them.

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use std::fmt;

/// Labels of one value.
pub type Labels = Vec<(&'static str, String)>;

/// Gauges of one moment.
#[derive(Default)]
pub struct Gauges(Registry);

impl Gauges {
    /// None yet; `prefix` and an underscore come before the name of each.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self(Registry::with_prefix(prefix))
    }

    /// A gauge with its values, or with the one that has no labels; one without a value isn't shown.
    pub fn register(
        &mut self,
        name: &str,
        says: &str,
        values: impl IntoIterator<Item = (Labels, usize)>,
    ) {
        let gauge = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            if labels.is_empty() {
                let alone = Gauge::<i64>::default();
                alone.set(value);
                return self.0.register(name, says, alone);
            }
            gauge.get_or_create(&labels).set(value);
        }
        self.0.register(name, says, gauge);
    }
}

/// What was counted and the gauges in the text format of OpenMetrics, which ends by a line of its own.
///
/// # Errors
///
/// A metric can't be written as text.
pub fn text(counted: &Registry, now: &Gauges) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, counted)?;
    encode_registry(&mut text, &now.0)?;
    encode_eof(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn all_families_have_a_type_and_nothing_follows_the_end() {
        let (mut counted, things) = (Registry::with_prefix("x"), Counter::<u64>::default());
        counted.register("things", "Things", things.clone());
        things.inc();
        let mut now = Gauges::new("x");
        let of = |what: &str| vec![("what", what.to_owned())];
        now.register("known", "What is known", [(of("a\"b"), 2), (of("c"), 3)]);
        now.register("nothing", "No values", []);
        now.register("all", "All", [(vec![], 7)]);
        let text = text(&counted, &now).unwrap();
        let mut lines: Vec<_> = text.lines().filter(|line| !line.contains("HELP")).collect();
        assert_eq!(lines.pop(), Some("# EOF"));
        lines[3..5].sort_unstable();
        assert_eq!(
            lines,
            [
                "# TYPE x_things counter",
                "x_things_total 1",
                "# TYPE x_known gauge",
                "x_known{what=\"a\\\"b\"} 2",
                "x_known{what=\"c\"} 3",
                "# TYPE x_all gauge",
                "x_all 7",
            ]
        );
    }
}
