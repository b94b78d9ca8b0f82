//! Ages as kubectl prints them, and durations as people type them.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use std::time::Duration;

/// How long ago `time` was.
pub(crate) fn since(time: Option<&Time>, now: Timestamp) -> String {
    match time {
        Some(time) => short(now.as_second() - time.0.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// How long ago the RFC 3339 text `time` was.
pub(crate) fn since_text(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => short(now.as_second() - time.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Seconds in at most two units; the longer ago, the coarser. Clocks that differ a little give `0s`.
pub(crate) fn short(seconds: i64) -> String {
    let s = seconds.max(0);
    let (m, h, d) = (s / 60, s / 3600, s / 86_400);
    let y = d / 365;
    match s {
        _ if s < 120 => format!("{s}s"),
        _ if m < 10 => two(m, "m", s % 60, "s"),
        _ if m < 180 => format!("{m}m"),
        _ if h < 8 => two(h, "h", m % 60, "m"),
        _ if h < 48 => format!("{h}h"),
        _ if d < 8 => two(d, "d", h % 24, "h"),
        _ if y < 2 => format!("{d}d"),
        _ if y < 8 => two(y, "y", d % 365, "d"),
        _ => format!("{y}y"),
    }
}

fn two(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{big}{big_unit}")
    } else {
        format!("{big}{big_unit}{small}{small_unit}")
    }
}

/// Parses `90s`, `2m`, `1h30m` or a number of seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write 90s, 2m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = 0u64;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        total = count
            .checked_mul(unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        digits.clear();
    }
    if digits.is_empty() && !text.is_empty() {
        Ok(Duration::from_secs(total))
    } else {
        Err(wrong())
    }
}

/// Elapsed time of work that a person waits for: `8.1s`, or `2m5s` when it is long.
pub(crate) fn elapsed(time: Duration) -> String {
    if time.as_secs() < 120 {
        format!("{:.1}s", time.as_secs_f32())
    } else {
        short(time.as_secs().try_into().unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_in_kubectl() {
        let day = 86_400;
        for (seconds, want) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (2 * day - 1, "47h"),
            (2 * day, "2d"),
            (2 * day + 7200, "2d2h"),
            (8 * day, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (800 * day, "2y70d"),
            (8 * 365 * day, "8y"),
        ] {
            assert_eq!(short(seconds), want, "{seconds}");
        }
    }

    #[test]
    fn times_are_compared_with_now() {
        let now: Timestamp = "2025-01-01T00:01:00Z".parse().unwrap();
        let then: Timestamp = "2025-01-01T00:00:30Z".parse().unwrap();
        assert_eq!(since(Some(&Time(then)), now), "30s");
        assert_eq!(since(None, now), "<unknown>");
        assert_eq!(since_text("2025-01-01T00:00:00Z", now), "60s");
        assert_eq!(since_text("yesterday", now), "<unknown>");
    }

    #[test]
    fn durations_parse() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("2m", 120),
            ("1h30m", 5400),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "2d", "2m3", "-1s", "1.5m", "99999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn elapsed_times_are_short() {
        assert_eq!(elapsed(Duration::from_millis(8_130)), "8.1s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2m5s");
    }
}
