//! The versions of a service as a listing.

use serde_json::{Value, json};
use weft_proto::admin::v1::{CanaryResponse, CanaryVersion, Flow};

use crate::{
    failure::{Exit, Failure},
    output::{Format, Item, Listing, OutputArgs, column, wide},
};

/// Prints the versions; no when one of them does worse than the stable one.
pub(super) fn print(told: &CanaryResponse, args: OutputArgs) -> Result<Exit, Failure> {
    listing(told).print(args)?;
    if matches!(args.output, Format::Table | Format::Wide) {
        for note in &told.notes {
            eprintln!("note: {note}");
        }
    }
    let worse = told.versions.iter().any(|version| matches!(&*version.verdict, "failing" | "slow"));
    Ok(if worse { Exit::No } else { Exit::Yes })
}

fn listing(told: &CanaryResponse) -> Listing {
    let columns = const {
        &[
            column("VERSION"),
            column("WEIGHT"),
            column("RPS"),
            column("SUCCESS"),
            column("P50"),
            column("P99"),
            column("VERDICT"),
            wide("SUBSET"),
            wide("ENDPOINTS"),
            wide("BEFORE"),
            wide("P90"),
            wide("ERRORS/S"),
            wide("REQUESTS"),
            wide("ACTIVE"),
        ]
    };
    let items = told.versions.iter().map(|version| item(told, version)).collect();
    Listing { kind: "CanaryVersionList", columns, items }
}

fn item(told: &CanaryResponse, version: &CanaryVersion) -> Item {
    let flow = version.flow.unwrap_or_default();
    let before = told.baseline.get(&version.version);
    Item {
        name: format!("version/{}", version.version),
        cells: vec![
            version.version.clone(),
            format!("{}%", version.weight),
            format!("{:.1}", flow.requests_per_second),
            flow.success.map(percent).unwrap_or_default(),
            flow.p50_ms.map(milliseconds).unwrap_or_default(),
            flow.p99_ms.map(milliseconds).unwrap_or_default(),
            version.verdict.clone(),
            version.subset.clone(),
            version.endpoints.to_string(),
            before.map(|weight| format!("{weight}%")).unwrap_or_default(),
            flow.p90_ms.map(milliseconds).unwrap_or_default(),
            format!("{:.1}", flow.errors_per_second),
            flow.requests.to_string(),
            flow.active.to_string(),
        ],
        json: json!({
            "namespace": told.namespace,
            "service": told.service,
            "route": told.route,
            "version": version.version,
            "subset": version.subset,
            "weight": version.weight,
            "weightBefore": before,
            "endpoints": version.endpoints,
            "verdict": version.verdict,
            "flow": flow_json(&flow),
        }),
    }
}

fn flow_json(flow: &Flow) -> Value {
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

/// A share as people read it: "100%", "99.95%", never a rounded-up hundred.
fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0).floor() / 100.0;
    format!("{hundredths}%")
}

fn milliseconds(ms: f64) -> String {
    match ms {
        0.0..10.0 => format!("{ms:.1}ms"),
        10.0..10_000.0 => format!("{ms:.0}ms"),
        _ => format!("{:.1}s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_show_their_share_and_how_they_do() {
        let flow = Flow {
            requests_per_second: 47.53,
            success: Some(0.99999),
            p50_ms: Some(2.04),
            p99_ms: Some(1234.5),
            ..Flow::default()
        };
        let version = |name: &str, weight, verdict: &str, flow| CanaryVersion {
            version: name.into(),
            weight,
            verdict: verdict.into(),
            flow: Some(flow),
            ..CanaryVersion::default()
        };
        let versions = vec![version("v1", 95, "stable", flow), version("v2", 5, "silent", Flow::default())];
        let told = CanaryResponse { versions, ..CanaryResponse::default() };
        assert_eq!(
            listing(&told).render(OutputArgs::default()),
            "VERSION   WEIGHT   RPS    SUCCESS   P50     P99      VERDICT\n\
             v1        95%      47.5   99.99%    2.0ms   1234ms   stable\n\
             v2        5%       0.0    -         -       -        silent\n"
        );
        assert_eq!(print(&told, OutputArgs { output: Format::Name, no_headers: true }), Ok(Exit::Yes));
    }

    #[test]
    fn a_version_that_does_worse_is_a_no() {
        for (verdict, exit) in [("failing", Exit::No), ("slow", Exit::No), ("few", Exit::Yes)] {
            let version = CanaryVersion { verdict: verdict.into(), ..CanaryVersion::default() };
            let told = CanaryResponse { versions: vec![version], ..CanaryResponse::default() };
            assert_eq!(print(&told, OutputArgs { output: Format::Name, no_headers: true }), Ok(exit));
        }
    }

    #[test]
    fn numbers_have_as_many_digits_as_people_need() {
        assert_eq!([percent(1.0), percent(0.95), percent(0.0)], ["100%", "95%", "0%"]);
        assert_eq!(
            [milliseconds(0.25), milliseconds(40.4), milliseconds(12_345.0)],
            ["0.2ms", "40ms", "12.3s"]
        );
    }
}
