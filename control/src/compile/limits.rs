//! Policies of limits become limits for the proxy of a workload. Pure.

use std::sync::Arc;

use super::{
    access::Workload,
    ir::{Limits, LocalLimit},
};
use crate::documents::DocumentSet;

/// What limits the requests to a workload, the oldest policy first, and the keys of the documents that say so.
pub(crate) fn compile(documents: &DocumentSet, workload: Workload<'_>) -> (Limits, Vec<Arc<str>>) {
    let (mut limits, mut keys) = (Limits::default(), Vec::new());
    let policies = documents
        .rate_limit_policies()
        .filter(|(document, policy)| workload.is_meant(&document.namespace, &policy.scope));
    for (document, policy) in policies {
        let (namespace, policy_name) = (&document.namespace, &document.name);
        limits.local.extend(policy.rules.iter().map(|rule| LocalLimit {
            name: format!("ns[{namespace}]-policy[{policy_name}]-rule[{}]", rule.name).into(),
            subject: rule.subject.clone(),
            rate: rule.rate,
            dry_run: policy.dry_run,
        }));
        keys.push(document.key());
    }
    (limits, keys)
}
