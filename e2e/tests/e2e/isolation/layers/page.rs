//! The table of results in docs/attacks.md: what a run found must be what the page says.

use anyhow::{Context, ensure};
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md");
const BEGIN: &str = "<!-- results of t5_to_t38_each_layer_holds_alone: begin -->\n";
const END: &str = "<!-- results of t5_to_t38_each_layer_holds_alone: end -->\n";

/// The results of one attack that came one way.
pub(super) struct Row {
    pub(super) class: &'static str,
    pub(super) what: &'static str,
    pub(super) way: String,
    /// With layer A, with B alone, with C alone, and with none.
    pub(super) results: [String; 4],
}

fn table(rows: &[Row]) -> String {
    let mut text = "| # | attack | way | layer A | B alone | C alone | none |\n|---|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let results = row.results.join(" | ");
        text += &format!(
            "| {} | {} | {} | {results} |\n",
            row.class, row.what, row.way
        );
    }
    text
}

/// Compares the page with what was found; with `UPDATE_EXPECT` it is written anew.
///
/// # Errors
/// The page says something else.
pub(super) fn compare(rows: &[Row]) -> anyhow::Result<()> {
    let page = std::fs::read_to_string(PAGE).context("reading docs/attacks.md")?;
    let (before, rest) = page
        .split_once(BEGIN)
        .context("the page has no place for results")?;
    let (there, after) = rest
        .split_once(END)
        .context("the page's results have no end")?;
    let found = table(rows);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let page = format!("{before}{BEGIN}{found}{END}{after}");
        return std::fs::write(Path::new(PAGE), page).context("writing docs/attacks.md");
    }
    ensure!(
        there == found,
        "docs/attacks.md says otherwise; UPDATE_EXPECT=1 writes this into it:\n{found}"
    );
    Ok(())
}
