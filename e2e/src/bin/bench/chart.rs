//! A chart of a document: pairs of bars, straight in the super cluster and through tenants.

use serde_json::Value;
use std::fmt::Write;

/// A pair of bars: scenario, tokens, title, unit, and where the figure is in a run.
struct Row(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const ROWS: &[Row] = &[
    Row(
        "burst",
        "off",
        "Burst of pods: throughput",
        "pods/s",
        "/podsPerSecond",
    ),
    Row(
        "burst",
        "off",
        "Burst: create to Ready, p99",
        "ms",
        "/milliseconds/createToReady/p99",
    ),
    Row(
        "burst",
        "on",
        "Burst of pods with tokens: throughput",
        "pods/s",
        "/podsPerSecond",
    ),
    Row(
        "steady",
        "off",
        "Steady: create to super pod, p50",
        "ms",
        "/milliseconds/createToSuperPod/p50",
    ),
    Row(
        "steady",
        "off",
        "Steady: create to Ready, p50",
        "ms",
        "/milliseconds/createToReady/p50",
    ),
    Row(
        "steady",
        "off",
        "Steady: create to Ready, p99",
        "ms",
        "/milliseconds/createToReady/p99",
    ),
    Row(
        "fair",
        "off",
        "Beside a burst: quiet tenants, p99",
        "ms",
        "/quiet/milliseconds/createToReady/p99",
    ),
];

const WIDTH: f64 = 760.0;
const LEFT: f64 = 300.0;
const LONGEST: f64 = 330.0;
const BAR: f64 = 14.0;
const GAP: f64 = 16.0;
const TOP: f64 = 44.0;
const COLOURS: [(&str, &str, &str); 2] = [
    ("/direct", "straight in the super cluster", "#9aa5b1"),
    ("/synced", "through tenants, by Sublet", "#2f6fdb"),
];

/// The chart, as SVG. Scenarios that the document lacks are left out.
pub(crate) fn draw(document: &Value) -> String {
    let rows: Vec<(&Row, [f64; 2])> = ROWS
        .iter()
        .filter_map(|row| Some((row, figures(document, row)?)))
        .collect();
    let step = 2.0 * BAR + GAP;
    let height = TOP + step * rows.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (place, (_, name, colour)) in [LEFT, LEFT + 210.0].iter().zip(COLOURS) {
        let _ = writeln!(
            svg,
            "<rect x=\"{place}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"25\" fill=\"#222222\">{name}</text>",
            place + 18.0
        );
    }
    for (number, (row, figures)) in rows.iter().enumerate() {
        let top = TOP + step * number as f64;
        let most = figures.iter().copied().fold(f64::EPSILON, f64::max);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222222\">{}</text>",
            LEFT - 10.0,
            top + BAR + 5.0,
            row.2
        );
        for (bar, (figure, (.., colour))) in figures.iter().zip(COLOURS).enumerate() {
            let (y, length) = (top + BAR * bar as f64, LONGEST * figure / most);
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\" font-size=\"11\" fill=\"#222222\">{} {}</text>",
                BAR - 1.0,
                LEFT + length + 6.0,
                y + 11.0,
                shown(*figure),
                row.3
            );
        }
    }
    svg + "</svg>\n"
}

/// Both figures of a row, if the document has them.
fn figures(document: &Value, row: &Row) -> Option<[f64; 2]> {
    let measured = document["measured"].as_array()?.iter();
    let median = measured
        .filter(|one| one["scenario"] == row.0 && one["tokens"] == row.1)
        .map(|one| &one["figures"]["median"])
        .next_back()?;
    let of = |route: &str| median.pointer(&format!("{route}{}", row.4))?.as_f64();
    Some([of(COLOURS[0].0)?, of(COLOURS[1].0)?])
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
}
