//! Durations as Go and Istio write them: `10s`, `1.5s`, `1h30m`, `200ms`.

use std::time::Duration;

/// Longest duration that is accepted: what protobuf's `Duration` holds is far more, but nobody means it.
const SECONDS_MAX: f64 = 86_400.0 * 365.0;

/// Reads a duration; the error says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err(format!("duration {text:?} is negative"));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let bad = || format!("{text:?} is no duration");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(bad());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let tail = &rest[digits..];
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit = match &tail[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        seconds += number * unit;
        rest = &tail[end..];
    }
    if seconds > SECONDS_MAX {
        return Err(format!("duration {text:?} is longer than a year"));
    }
    // Rounded, because 0.2 has no exact binary form.
    Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in
            [("10s", 10_000), ("1.5s", 1500), ("1h30m", 5_400_000), ("200ms", 200), ("0", 0), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "-1s", "s", "1x", "1..2s", "10 s", "999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
