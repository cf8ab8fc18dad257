//! What happened within a time, for people and for machines. Pure.

use serde_json::{Value, json};
use weft_proto::admin::v1::Flow;

/// The whole of it.
pub(super) fn json(flow: &Flow) -> Value {
    json!({
        "requestsPerSecond": flow.requests_per_second,
        "errorsPerSecond": flow.errors_per_second,
        "success": flow.success,
        "p50Ms": flow.p50_ms,
        "p90Ms": flow.p90_ms,
        "p99Ms": flow.p99_ms,
        "requests": flow.requests,
        "dropped": flow.dropped,
        "active": flow.active,
    })
}

/// A rate: "47.5".
pub(super) fn rate(per_second: f64) -> String {
    format!("{per_second:.1}")
}

/// A share as people read it: "100%", "99.95%", never a rounded-up hundred; empty where nothing ended.
pub(super) fn success(flow: &Flow) -> String {
    let percent = |share: f64| format!("{}%", (share * 10_000.0).floor() / 100.0);
    flow.success.map(percent).unwrap_or_default()
}

/// A latency with as many digits as people need; empty where nobody measures it.
pub(super) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => String::new(),
        Some(ms @ 0.0..10.0) => format!("{ms:.1}ms"),
        Some(ms @ 10.0..10_000.0) => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.1}s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_people_need() {
        let success = |share| success(&Flow { success: Some(share), ..Flow::default() });
        assert_eq!([success(1.0), success(0.95), success(0.0)], ["100%", "95%", "0%"]);
        assert_eq!(success(0.99999), "99.99%");
        let latencies = [Some(0.25), Some(40.4), Some(12_345.0), None].map(latency);
        assert_eq!(latencies, ["0.2ms", "40ms", "12.3s", ""]);
    }
}
