//! A chart of a document: pairs of bars. Where the same was done straight in the super cluster, that is the other bar, and
//! else what is wanted.

use super::results::{letter, median};
use serde_json::Value;
use std::fmt::Write;

/// A pair of bars: scenario, tokens, title, unit, where the figure is in a run or in the median, and what the other bar is.
struct Row(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Beside,
);

/// The other bar.
#[derive(Clone, Copy)]
enum Beside {
    /// The same figure of the run straight in the super cluster.
    Direct,
    /// What is wanted.
    Wanted(f64),
}

use Beside::{Direct, Wanted};

const ROWS: &[Row] = &[
    Row(
        "burst",
        "off",
        "Burst of pods: throughput",
        "pods/s",
        "/podsPerSecond",
        Direct,
    ),
    Row(
        "burst",
        "off",
        "Burst: create to Ready, p99",
        "ms",
        "/milliseconds/createToReady/p99",
        Direct,
    ),
    Row(
        "burst",
        "on",
        "Burst of pods with tokens: throughput",
        "pods/s",
        "/podsPerSecond",
        Direct,
    ),
    Row(
        "steady",
        "off",
        "Steady: create to super pod, p50",
        "ms",
        "/milliseconds/createToSuperPod/p50",
        Direct,
    ),
    Row(
        "steady",
        "off",
        "Steady: create to Ready, p50",
        "ms",
        "/milliseconds/createToReady/p50",
        Direct,
    ),
    Row(
        "steady",
        "off",
        "Steady: create to Ready, p99",
        "ms",
        "/milliseconds/createToReady/p99",
        Direct,
    ),
    Row(
        "fair",
        "off",
        "Beside a burst: quiet tenants, p99",
        "ms",
        "/quiet/milliseconds/createToReady/p99",
        Direct,
    ),
    Row(
        "idle",
        "off",
        "500 idle tenants: memory of the syncer",
        "MiB",
        "/crowd/syncerPssMiB",
        Wanted(150.0),
    ),
    Row(
        "idle",
        "off",
        "500 idle tenants: CPU of the syncer",
        "% of a core",
        "/crowd/syncerPercentOfACore",
        Wanted(5.0),
    ),
    Row(
        "handover",
        "off",
        "Syncer killed: until its last tenant is served",
        "s",
        "/handover/secondsToLast",
        Wanted(12.0),
    ),
    Row(
        "ceiling",
        "off",
        "Pods a second and core of the syncer",
        "",
        "/ceiling/both/podsPerSecondAndCore",
        Wanted(6_000.0),
    ),
];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 300.0;
const LONGEST: f64 = 330.0;
const BAR: f64 = 14.0;
const GAP: f64 = 16.0;
const TOP: f64 = 44.0;
/// What the bars are, where in the chart that is said, and their colours.
const LEGEND: [(&str, f64, &str); 3] = [
    ("by Sublet", 0.0, SUBLET),
    ("straight in the super cluster", 100.0, DIRECT),
    ("wanted", 310.0, WANTED),
];
const SUBLET: &str = "#2f6fdb";
const DIRECT: &str = "#9aa5b1";
const WANTED: &str = "#d9c9a3";

/// The chart, as SVG. Scenarios that the document lacks are left out.
pub fn draw(document: &Value) -> String {
    let rows: Vec<(&Row, [(f64, &str); 2])> = ROWS
        .iter()
        .filter_map(|row| Some((row, row.bars(document)?)))
        .collect();
    let step = 2.0 * BAR + GAP;
    let height = TOP + step * rows.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (name, place, colour) in LEGEND {
        let place = LEFT + place;
        let _ = writeln!(
            svg,
            "<rect x=\"{place}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"25\" fill=\"#222222\">{name}</text>",
            place + 18.0
        );
    }
    for (number, (row, bars)) in rows.iter().enumerate() {
        let top = TOP + step * number as f64;
        let most = bars[0].0.max(bars[1].0).max(f64::EPSILON);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222222\">{}</text>",
            LEFT - 10.0,
            top + BAR + 5.0,
            row.2
        );
        if let Some(letter) = letter(document, row.0, row.1, &row.pointer()) {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" font-size=\"11\" fill=\"{DIRECT}\">{letter}</text>",
                WIDTH - 8.0,
                top + BAR + 5.0,
            );
        }
        for (bar, (figure, colour)) in bars.iter().enumerate() {
            let (y, length) = (top + BAR * bar as f64, LONGEST * figure / most);
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\" font-size=\"11\" fill=\"#222222\">{}</text>",
                BAR - 1.0,
                LEFT + length + 6.0,
                y + 11.0,
                format!("{} {}", shown(*figure), row.3).trim_end()
            );
        }
    }
    svg + "</svg>\n"
}

impl Row {
    /// Where Sublet's own figure is.
    fn pointer(&self) -> String {
        match self.5 {
            Direct => format!("/synced{}", self.4),
            Wanted(_) => self.4.to_owned(),
        }
    }

    /// Both bars and their colours, if the document has what they show.
    fn bars(&self, document: &Value) -> Option<[(f64, &'static str); 2]> {
        let of = |pointer: &str| median(document, self.0, self.1, pointer)?.as_f64();
        Some(match self.5 {
            Direct => [
                (of(&format!("/direct{}", self.4))?, DIRECT),
                (of(&self.pointer())?, SUBLET),
            ],
            Wanted(wanted) => [(wanted, WANTED), (of(&self.pointer())?, SUBLET)],
        })
    }
}

fn shown(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_chart_has_two_bars_for_each_figure_that_there_is() {
        let run = |rate: f64| json!({"podsPerSecond": rate});
        let median = json!({"direct": run(300.0), "synced": run(150.0)});
        let document = json!({"measured": [{"scenario": "burst", "tokens": "off", "figures": {"median": median}}]});
        let svg = draw(&document);
        assert!(
            svg.contains("width=\"330.0\"") && svg.contains("width=\"165.0\""),
            "{svg}"
        );
        assert!(
            svg.contains("300 pods/s") && svg.contains("150 pods/s"),
            "{svg}"
        );
        assert!(!svg.contains("Steady"), "{svg}");
    }

    #[test]
    fn what_has_no_direct_run_stands_beside_what_is_wanted() {
        let median = json!({"crowd": {"syncerPssMiB": 75.0}});
        let document = json!({"measured": [{"scenario": "idle", "tokens": "off", "figures": {"median": median}}]});
        let svg = draw(&document);
        assert!(svg.contains("150 MiB") && svg.contains("75.0 MiB"), "{svg}");
        assert!(svg.contains("width=\"165.0\""), "{svg}");
    }
}
