//! Arithmetic of shares in percent. Pure.

use std::{collections::BTreeMap, sync::Arc};

/// Percent by version.
pub type Shares = BTreeMap<Arc<str>, u32>;

/// Shares that cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// There is no such version.
    #[error("there is no version {version:?}; {known} are known")]
    Unknown {
        /// What was asked for.
        version: Arc<str>,
        /// What there is.
        known: String,
    },
    /// It would get traffic that nobody takes.
    #[error("no healthy endpoint has version {0:?}; start one first")]
    NoEndpoint(Arc<str>),
    /// Too much, or too little where every version is named.
    #[error("the weights sum to {0}, not to 100")]
    Sum(u64),
    /// It is not clear who has the rest.
    #[error("who gets the other {0}% is not clear; name a share for every version")]
    Rest(u32),
    /// It is not clear which version is the canary.
    #[error("which version to promote is not clear; name it")]
    NoCanary,
    /// There is nothing to go back to.
    #[error("there is nothing to go back to: no canary began")]
    NoBaseline,
}

/// Divides `total` in the proportion of `weights`, to the last unit; nothing where all are zero.
pub(super) fn divide(total: u32, weights: &Shares) -> Shares {
    let sum: u64 = weights.values().map(|weight| u64::from(*weight)).sum();
    if sum == 0 {
        return Shares::new();
    }
    let exact = |weight: u32| u64::from(total) * u64::from(weight);
    let floor = |weight: u32| u32::try_from(exact(weight) / sum).unwrap_or(u32::MAX);
    let mut parts: Shares = weights.iter().map(|(name, weight)| (name.clone(), floor(*weight))).collect();
    let mut by_rest: Vec<&Arc<str>> = weights.keys().collect();
    by_rest.sort_by_key(|name| std::cmp::Reverse(exact(weights[*name]) % sum));
    let given: u32 = parts.values().sum();
    for name in by_rest.into_iter().take((total - given) as usize) {
        *parts.entry(name.clone()).or_default() += 1;
    }
    parts
}

/// The shares of every version when some are asked for: the others keep their proportions, or take those before the canary
/// where they have nothing now.
pub fn wanted(current: &Shares, baseline: &Shares, asked: &Shares) -> Result<Shares, WantedError> {
    if let Some(version) = asked.keys().find(|version| !current.contains_key(*version)) {
        let known: Vec<&str> = current.keys().map(|version| &**version).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(WantedError::Unknown { version: version.clone(), known });
    }
    let sum: u64 = asked.values().map(|weight| u64::from(*weight)).sum();
    let rest =
        u32::try_from(sum).ok().and_then(|sum| 100u32.checked_sub(sum)).ok_or(WantedError::Sum(sum))?;
    let others: Shares = current
        .iter()
        .filter(|(version, _)| !asked.contains_key(*version))
        .map(|(version, weight)| (version.clone(), *weight))
        .collect();
    let mut shares: Shares = others.keys().map(|version| (version.clone(), 0)).collect();
    shares.extend(asked.clone());
    if rest == 0 {
        return Ok(shares);
    }
    let before: Shares =
        others.keys().map(|version| (version.clone(), baseline.get(version).copied().unwrap_or(0))).collect();
    let one = (others.len() == 1).then(|| others.keys().map(|version| (version.clone(), 1)).collect());
    let divided = [Some(others), Some(before), one]
        .into_iter()
        .flatten()
        .map(|weights| divide(rest, &weights))
        .find(|divided| !divided.is_empty());
    match divided {
        Some(divided) => shares.extend(divided),
        None if shares.len() == asked.len() => return Err(WantedError::Sum(sum)),
        None => return Err(WantedError::Rest(rest)),
    }
    Ok(shares)
}

/// The version that got more since the canary began, where it is one.
pub fn promoted(current: &Shares, baseline: &Shares) -> Result<Arc<str>, WantedError> {
    let before = |version: &Arc<str>| baseline.get(version).copied().unwrap_or(0);
    let mut grown = current.iter().filter(|(version, weight)| **weight > before(version));
    match (grown.next(), grown.next()) {
        (Some((version, _)), None) if !baseline.is_empty() => Ok(version.clone()),
        _ => Err(WantedError::NoCanary),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &str) -> Shares {
        let part = |part: &str| {
            let (version, weight) = part.split_once('=').unwrap();
            (version.into(), weight.parse().unwrap())
        };
        text.split_whitespace().map(part).collect()
    }

    #[track_caller]
    fn check(current: &str, baseline: &str, asked: &str, expected: &str) {
        let found = wanted(&shares(current), &shares(baseline), &shares(asked));
        let found = match found {
            Ok(found) => found.iter().map(|(v, w)| format!("{v}={w}")).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert!(found.starts_with(expected), "{current} -> {asked}: {found}");
    }

    #[test]
    fn the_others_keep_their_proportions() {
        check("v1=100 v2=0", "", "v2=5", "v1=95 v2=5");
        check("v1=95 v2=5", "", "v2=100", "v1=0 v2=100");
        check("v1=60 v2=30 v3=10", "", "v3=55", "v1=30 v2=15 v3=55");
        check("v1=33 v2=33 v3=34", "", "v3=1", "v1=50 v2=49 v3=1");
        check("v1=0 v2=100", "", "v2=60", "v1=40 v2=60");
        check("v1=0 v2=0 v3=100", "v1=30 v2=70", "v3=0", "v1=30 v2=70 v3=0");
        check("v1=10 v2=90", "", "v1=50 v2=50", "v1=50 v2=50");
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        check("v1=100", "", "v9=5", "there is no version \"v9\"; v1 are known");
        check("v1=100 v2=0", "", "v2=101", "the weights sum to 101");
        check("v1=100 v2=0", "", "v1=50 v2=40", "the weights sum to 90");
        check("v1=100 v2=0", "", "v1=4294967295 v2=4294967295", "the weights sum to 8589934590");
        check("v1=0 v2=0 v3=100", "", "v3=10", "who gets the other 90%");
    }

    #[test]
    fn the_canary_is_what_got_more() {
        let grown = |now: &str, before: &str| promoted(&shares(now), &shares(before)).ok();
        assert_eq!(grown("v1=95 v2=5", "v1=100").as_deref(), Some("v2"));
        assert_eq!(grown("v1=95 v2=5", ""), None);
        assert_eq!(grown("v1=90 v2=5 v3=5", "v1=100"), None);
        assert_eq!(grown("v1=100 v2=0", "v1=100"), None);
    }
}
