//! What is told of traffic, on a clock of the test's own.

use super::*;

fn edge(workload: &str, subset: &str) -> Edge {
    Edge {
        source_namespace: "default".into(),
        source_workload: workload.into(),
        host: "api.default.svc.cluster.local".into(),
        port: 80,
        subset: subset.into(),
    }
}

fn sample(good: u64, failed: u64) -> Sample {
    Sample { issued: good + failed, good, failed, ..Sample::default() }
}

fn one(edge: Edge, sample: Sample, active: u64) -> BTreeMap<Edge, (Sample, u64)> {
    BTreeMap::from([(edge, (sample, active))])
}

const STEP: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn rates_are_over_the_time_that_was_reported() {
    let start = Instant::now();
    let traffic = Traffic::new(start);
    let (mut one_proxy, mut other) = (traffic.reporter(), traffic.reporter());
    for step in 1..=24 {
        let now = start + STEP * step;
        one_proxy.report(now - STEP, now, one(edge("web", "v1"), sample(45, 5), 1));
        other.report(now - STEP, now, one(edge("web", "v1"), sample(50, 0), 2));
        let flows = traffic.flows(now, Duration::from_secs(60), |_| true);
        let flow = &flows[&edge("web", "v1")];
        assert!((flow.rate() - 20.0).abs() < 1e-9, "after {step}: {} a second", flow.rate());
        assert_eq!((flow.success(), flow.active), (Some(0.95), 3));
        assert!((flow.error_rate() - 1.0).abs() < 1e-9);
    }
    drop(other);
    let flows = traffic.flows(start + STEP * 24, SLOT, |edge| &*edge.subset == "v1");
    assert_eq!(flows[&edge("web", "v1")].active, 1);
    assert!(traffic.flows(start + STEP * 24, SLOT, |edge| &*edge.subset == "v2").is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_window_counts_no_longer_and_is_forgotten() {
    let start = Instant::now();
    let traffic = Traffic::new(start);
    let mut reporter = traffic.reporter();
    reporter.report(start, start + STEP, one(edge("web", "v1"), sample(10, 0), 0));
    reporter.report(start + SLOT * 4 - STEP, start + SLOT * 4, one(edge("web", "v2"), sample(1, 0), 0));
    let recent = traffic.flows(start + SLOT * 4, SLOT * 2, |_| true);
    assert_eq!((recent[&edge("web", "v1")].sum.issued, recent[&edge("web", "v2")].sum.issued), (0, 1));
    let later = traffic.flows(start + WINDOW_MAX, WINDOW_MAX, |_| true);
    assert_eq!(later.keys().map(|edge| &*edge.subset).collect::<Vec<_>>(), ["v2"]);
    assert!(traffic.flows(start + WINDOW_MAX * 2, WINDOW_MAX, |_| true).is_empty());
}

#[tokio::test(start_paused = true)]
async fn edges_past_the_limit_are_not_kept() {
    let start = Instant::now();
    let traffic = Traffic::new(start);
    let mut reporter = traffic.reporter();
    let many = (0..EDGES_MAX + 7).map(|n| (edge(&n.to_string(), ""), (sample(1, 0), 0))).collect();
    reporter.report(start, start + STEP, many);
    assert_eq!(traffic.flows(start + STEP, WINDOW_MAX, |_| true).len(), EDGES_MAX);
}

#[test]
fn flows_add_up() {
    let mut flow = Flow { sum: sample(9, 1), active: 1, over: STEP };
    flow.add(&Flow { sum: Sample { dropped: 10, ..sample(0, 0) }, active: 0, over: STEP });
    assert_eq!((flow.rate(), flow.error_rate(), flow.success()), (4.0, 2.2, Some(0.45)));
    assert_eq!(Flow::default().success(), None);
    assert_eq!(Flow::default().rate(), 0.0);
}
