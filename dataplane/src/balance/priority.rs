//! How load spreads over priorities as endpoints fail, and when health is disregarded. Pure; Envoy's arithmetic, integers
//! included, so that mixed meshes shift traffic alike.

/// The endpoints of one priority, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// All.
    pub(super) hosts: u64,
    /// Those that do not count yet, for want of a first health check.
    pub(super) excluded: u64,
    /// Healthy ones.
    pub(super) healthy: u64,
    /// Degraded ones.
    pub(super) degraded: u64,
    /// Weight of those that count; their number, where health does not go by weight.
    pub(super) weight: u64,
    /// Weight or number of the healthy ones.
    pub(super) weight_healthy: u64,
    /// Weight or number of the degraded ones.
    pub(super) weight_degraded: u64,
}

/// What one priority gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Percent of the load that its healthy endpoints get.
    pub(super) healthy: u32,
    /// Percent of the load that its degraded endpoints get.
    pub(super) degraded: u32,
    /// Its load goes to all of its endpoints.
    pub(super) panic: bool,
}

/// The shares of all priorities; they sum to 100 where there is any priority.
pub(super) fn spread(levels: &[Census], overprovisioning_percent: u32, panic_percent: u32) -> Vec<Share> {
    let health = |part: u64, whole: u64| {
        let scaled = part.saturating_mul(u64::from(overprovisioning_percent)).checked_div(whole);
        scaled.unwrap_or(0).min(100) as u32
    };
    let healthy: Vec<u32> = levels.iter().map(|level| health(level.weight_healthy, level.weight)).collect();
    let degraded: Vec<u32> = levels.iter().map(|level| health(level.weight_degraded, level.weight)).collect();
    let available = healthy.iter().chain(&degraded).sum::<u32>().min(100);
    let mut shares = vec![Share::default(); levels.len()];
    if available > 0 {
        let mut left = 100;
        let mut take = |availability: u32| {
            let load = left.min(availability * 100 / available);
            left -= load;
            load
        };
        for (share, availability) in shares.iter_mut().zip(&healthy) {
            share.healthy = take(*availability);
        }
        for (share, availability) in shares.iter_mut().zip(&degraded) {
            share.degraded = take(*availability);
        }
        // What rounding left goes to the first that has anything to offer.
        if let Some(first) = healthy.iter().position(|availability| *availability > 0) {
            shares[first].healthy += left;
        } else if let Some(first) = degraded.iter().position(|availability| *availability > 0) {
            shares[first].degraded += left;
        }
    }
    panic(levels, available, panic_percent, &mut shares);
    shares
}

/// Marks the priorities in panic; where all are, load goes by numbers of endpoints.
fn panic(levels: &[Census], available: u32, panic_percent: u32, shares: &mut [Share]) {
    if panic_percent == 0 && available == 0 {
        // Nobody is available and nobody may be disregarded: the first one's endpoints are asked, and none answers.
        if let Some(first) = shares.first_mut() {
            first.healthy = 100;
        }
        return;
    }
    for (share, level) in shares.iter_mut().zip(levels) {
        let counted = level.hosts - level.excluded;
        let enough = (level.healthy + level.degraded) * 100 >= u64::from(panic_percent) * counted;
        share.panic = available < 100 && (!enough || counted == 0 && panic_percent > 0);
    }
    if shares.iter().any(|share| !share.panic) {
        return;
    }
    let total: u64 = levels.iter().map(|level| level.hosts).sum();
    let mut left = 100;
    for (share, level) in shares.iter_mut().zip(levels) {
        let load = (level.hosts * 100).checked_div(total).unwrap_or(0) as u32;
        *share = Share { healthy: load, degraded: 0, panic: true };
        left -= load;
    }
    let first = levels.iter().position(|level| level.hosts > 0).unwrap_or(0);
    if let Some(first) = shares.get_mut(first) {
        first.healthy += left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: u32 = 140;

    /// A priority of a hundred endpoints.
    fn of(healthy: u64, degraded: u64) -> Census {
        let hosts = 100;
        Census {
            hosts,
            excluded: 0,
            healthy,
            degraded,
            weight: hosts,
            weight_healthy: healthy,
            weight_degraded: degraded,
        }
    }

    #[track_caller]
    fn check(healthy: &[u64], loads: &[u32]) {
        let levels: Vec<_> = healthy.iter().map(|healthy| of(*healthy, 0)).collect();
        let shares = spread(&levels, DEFAULT, 50);
        let found: Vec<_> = shares.iter().map(|share| share.healthy).collect();
        assert_eq!(found, loads, "{healthy:?}");
    }

    #[test]
    fn load_spreads_as_in_envoys_documentation_of_priority_levels() {
        check(&[100, 100], &[100, 0]);
        check(&[72, 100], &[100, 0]);
        check(&[71, 100], &[99, 1]);
        check(&[50, 100], &[70, 30]);
        check(&[25, 100], &[35, 65]);
        check(&[0, 100], &[0, 100]);
        check(&[72, 72], &[100, 0]);
        check(&[71, 71], &[99, 1]);
        check(&[50, 50], &[70, 30]);
        check(&[25, 25], &[50, 50]);
        check(&[100, 100, 100], &[100, 0, 0]);
        check(&[72, 72, 100], &[100, 0, 0]);
        check(&[71, 71, 100], &[99, 1, 0]);
        check(&[50, 50, 100], &[70, 30, 0]);
        check(&[25, 100, 100], &[35, 65, 0]);
        check(&[25, 25, 100], &[35, 35, 30]);
        // Without panic the documentation has 36, 36, 28; its code gives the first what rounding leaves.
        let shares = spread(&[of(25, 0), of(25, 0), of(20, 0)], DEFAULT, 0);
        assert_eq!(shares.iter().map(|share| share.healthy).collect::<Vec<_>>(), [37, 35, 28]);
    }

    #[test]
    fn degraded_endpoints_take_what_healthy_ones_cannot() {
        let check = |healthy, degraded, loads: (u32, u32)| {
            let shares = spread(&[of(healthy, degraded)], DEFAULT, 50);
            assert_eq!((shares[0].healthy, shares[0].degraded), loads, "{healthy} {degraded}");
        };
        check(100, 0, (100, 0));
        check(71, 0, (100, 0));
        check(71, 29, (99, 1));
        check(25, 65, (35, 65));
        check(5, 0, (100, 0));
        // From the comment on the algorithm in Envoy: 10/20/10 healthy and 20/10/0 degraded, factor 1.
        let levels = [of(10, 20), of(20, 10), of(10, 0)];
        let shares = spread(&levels, 100, 0);
        let found: Vec<_> = shares.iter().map(|share| (share.healthy, share.degraded)).collect();
        assert_eq!(found, [(16, 28), (28, 14), (14, 0)]);
    }

    #[test]
    fn panic_comes_only_when_no_priority_can_make_up_for_it() {
        let panics = |healthy: &[u64], percent| -> Vec<bool> {
            let levels: Vec<_> = healthy.iter().map(|healthy| of(*healthy, 0)).collect();
            spread(&levels, DEFAULT, percent).iter().map(|share| share.panic).collect()
        };
        assert_eq!(panics(&[72, 72], 50), [false, false]);
        assert_eq!(panics(&[71, 71], 50), [false, false]);
        assert_eq!(panics(&[50, 60], 50), [false, false]);
        assert_eq!(panics(&[25, 100], 50), [false, false]);
        assert_eq!(panics(&[25, 25], 50), [true, true]);
        assert_eq!(panics(&[5, 65], 50), [true, false]);
        assert_eq!(panics(&[25, 25], 20), [false, false]);
        assert_eq!(panics(&[0, 0], 0), [false, false], "a threshold of zero is never");
    }

    #[test]
    fn in_panic_everywhere_load_goes_by_numbers() {
        let big = Census { hosts: 30, weight: 30, ..Census::default() };
        let small = Census { hosts: 10, weight: 10, ..Census::default() };
        let shares = spread(&[small, big], DEFAULT, 50);
        assert_eq!(shares.iter().map(|share| share.healthy).collect::<Vec<_>>(), [25, 75]);
        assert!(shares.iter().all(|share| share.panic));
    }

    #[test]
    fn endpoints_that_await_their_first_check_do_not_count() {
        let level = Census {
            hosts: 100,
            excluded: 90,
            healthy: 10,
            degraded: 0,
            weight: 10,
            weight_healthy: 10,
            weight_degraded: 0,
        };
        assert_eq!(spread(&[level], DEFAULT, 50), [Share { healthy: 100, degraded: 0, panic: false }]);
    }

    #[test]
    fn loads_always_sum_to_a_hundred() {
        for a in (0..=100).step_by(7) {
            for b in (0..=100).step_by(9) {
                for c in [0, 1, 33, 50, 99] {
                    for percent in [0, 50, 100] {
                        let levels = [of(a, (100 - a) / 2), of(b, 0), of(c, 100 - c)];
                        let shares = spread(&levels, DEFAULT, percent);
                        let sum: u32 = shares.iter().map(|share| share.healthy + share.degraded).sum();
                        assert_eq!(sum, 100, "{levels:?} {percent}");
                    }
                }
            }
        }
        assert_eq!(spread(&[], DEFAULT, 50), []);
    }
}
