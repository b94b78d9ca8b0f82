//! The machine that was measured on.

use serde_json::{Value, json};
use std::{fs, thread};

/// What it is, as far as a figure depends on it.
///
/// # Errors
/// The kernel doesn't tell.
pub fn describe() -> anyhow::Result<Value> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let memory: Option<u64> =
        field(&memory, "MemTotal").and_then(|text| text.trim_end_matches("kB").trim().parse().ok());
    Ok(json!({
        "processor": field(&cpus, "model name"),
        "processors": thread::available_parallelism()?.get(),
        "memoryGiB": memory.map(|kib| kib / 1024 / 1024),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        "loadAtStart": load.split(' ').next(),
    }))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim())
}
