//! The versions of a service as a listing.

use serde_json::json;
use weft_proto::admin::v1::{CanaryResponse, CanaryVersion};

use crate::{
    command::flow,
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
            flow::rate(flow.requests_per_second),
            flow::success(&flow),
            flow::latency(flow.p50_ms),
            flow::latency(flow.p99_ms),
            version.verdict.clone(),
            version.subset.clone(),
            version.endpoints.to_string(),
            before.map(|weight| format!("{weight}%")).unwrap_or_default(),
            flow::latency(flow.p90_ms),
            flow::rate(flow.errors_per_second),
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
            "flow": flow::json(&flow),
        }),
    }
}

#[cfg(test)]
mod tests {
    use weft_proto::admin::v1::Flow;

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
}
