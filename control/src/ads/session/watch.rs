//! One type on one stream: what is wanted, what is in flight, and what comes next. Pure.

use std::{collections::BTreeSet, mem, sync::Arc};

use super::{
    NAMES_MAX, Names, Protocol, RESPONSE_BYTES_MAX, Request, Response, TooManyNames,
    holdings::{Holdings, Refusal, culprits},
    interest::{EVERYTHING, Interest},
};
use crate::resource::{Kind, Resource, ResourceSet};

/// Refusals in a row before everything that is left is offered, and if need be given up, at once.
const REFUSALS_MAX: u32 = 32;

/// Whether a response may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removals {
    Now,
    Later,
}

/// A response, and which of its resources the client had before in another version.
pub(super) struct Offered {
    pub(super) response: Response,
    pub(super) updated: Vec<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Watch {
    kind: Kind,
    protocol: Protocol,
    interest: Interest,
    held: Holdings,
    /// Names to send though the client has them.
    resend: BTreeSet<Arc<str>>,
    in_flight: Option<InFlight>,
    last_nonce: u64,
    /// Whether there may be something to add or change.
    dirty: bool,
    /// Whether something is to be removed once that is safe.
    removals_due: bool,
    /// Whether the client waits for an answer, though it may be empty.
    answer_due: bool,
    /// How many changes the next response may carry: halves with each refusal that names no culprit, so that one bad
    /// resource does not hold back the others, and doubles with each ACK.
    window: usize,
    refusals_in_a_row: u32,
    acked: u64,
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    revision: u64,
    changed: Vec<Arc<Resource>>,
    removed: Vec<Arc<str>>,
    /// Whether an ACK means that the client runs the whole revision.
    complete: bool,
}

/// What the client lacks.
#[derive(Default)]
struct Plan {
    changed: Vec<Arc<Resource>>,
    /// Named, and does not exist: to be told at once.
    missing: Vec<Arc<str>>,
    /// Held, and no longer exists: to be removed when that is safe.
    gone: Vec<Arc<str>>,
    /// Left for the next response.
    more: bool,
}

impl Watch {
    pub(super) fn new(kind: Kind, protocol: Protocol) -> Self {
        Self {
            kind,
            protocol,
            interest: Interest::default(),
            held: Holdings::default(),
            resend: BTreeSet::new(),
            in_flight: None,
            last_nonce: 0,
            dirty: false,
            removals_due: false,
            answer_due: false,
            window: usize::MAX,
            refusals_in_a_row: 0,
            acked: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn is_open(&self) -> bool {
        self.interest.is_open()
    }

    /// What is asked for by name.
    pub(super) fn names(&self) -> &BTreeSet<Arc<str>> {
        self.interest.names()
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the client has every addition and change of the newest world.
    pub(super) fn is_added(&self) -> bool {
        self.in_flight.is_none() && !self.dirty
    }

    /// Whether every addition and change of the newest world is on its way at least.
    pub(super) fn is_sent(&self) -> bool {
        !self.dirty
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_added() && !self.removals_due
    }

    /// There may be something new.
    pub(super) fn touch(&mut self) {
        self.dirty = self.is_open();
    }

    /// Sends a name again though its version is the same.
    pub(super) fn resend(&mut self, name: &Arc<str>) {
        if self.held.knows(name) && !self.held.has_refused(name) && self.interest.wants(name) {
            self.resend.insert(name.clone());
            self.dirty = true;
        }
    }

    /// Sends a name as if it had been asked for.
    pub(super) fn imply(&mut self, name: &Arc<str>) {
        self.dirty |= self.interest.imply(name);
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        self.held.refusals()
    }

    /// Everything of this revision is there, or it does not concern the client.
    pub(super) fn note_revision(&mut self, revision: u64) {
        if self.is_open() && self.is_settled() && self.held.is_without_refusals() {
            self.acked = revision;
        }
    }

    pub(super) fn take(&mut self, request: Request) -> Result<(), TooManyNames> {
        let Request { nonce, error, names, .. } = request;
        let current = nonce.is_empty() || nonce == self.last_nonce.to_string() || self.last_nonce == 0;
        if current && let Some(answered) = self.in_flight.take_if(|sent| sent.nonce.to_string() == nonce) {
            match error {
                None => self.accept(answered),
                Some(message) => self.refuse(answered, &message),
            }
            self.dirty = true;
        }
        match names {
            Names::Change { subscribe, unsubscribe, initial } => {
                self.change_names(&subscribe, &unsubscribe, initial)
            }
            // A request that answers an older response was written before the newest came; the client will answer
            // that one too, with the names that it wants by then.
            Names::All(_) if !current => Ok(()),
            Names::All(names) => self.replace_names(&names),
        }
    }

    fn change_names(
        &mut self,
        subscribe: &[String],
        unsubscribe: &[String],
        initial: std::collections::HashMap<String, String>,
    ) -> Result<(), TooManyNames> {
        if self.interest.names().len() + subscribe.len() > NAMES_MAX || initial.len() > NAMES_MAX {
            return Err(TooManyNames { kind: self.kind });
        }
        let asked_for_all = self.interest.wants_everything();
        let implied: Vec<&String> = subscribe.iter().filter(|name| self.interest.is_implied(name)).collect();
        let first = self.interest.change(self.kind, subscribe, unsubscribe);
        let asks_for_all = self.interest.wants_everything() && !asked_for_all;
        self.answer_due |= asks_for_all || subscribe.iter().any(|name| name == EVERYTHING);
        self.drop_unwanted();
        if first {
            for (name, version) in initial.into_iter().filter(|(name, _)| self.interest.wants(name)) {
                self.held.declare(name.into(), &version);
            }
        } else {
            // Asking again is how a client says that it has lost a resource. One that is dropped by name but still
            // covered by "*" is answered too.
            let dropped = unsubscribe.iter().filter(|name| self.interest.wants(name));
            let again = subscribe.iter().filter(|name| !implied.contains(name));
            self.resend.extend(again.chain(dropped).map(|name| name.as_str().into()));
            self.resend.remove(EVERYTHING);
        }
        self.dirty |= first || !subscribe.is_empty() || !unsubscribe.is_empty();
        Ok(())
    }

    fn replace_names(&mut self, names: &[String]) -> Result<(), TooManyNames> {
        if names.len() > NAMES_MAX {
            return Err(TooManyNames { kind: self.kind });
        }
        if self.interest.replace(self.kind, names) {
            // Only clusters and listeners: their absence from a response says that they do not exist.
            self.answer_due |= self.lists_in_full();
            self.dirty = true;
        }
        self.drop_unwanted();
        Ok(())
    }

    fn drop_unwanted(&mut self) {
        let interest = &self.interest;
        self.held.retain(|name| interest.wants(name));
        self.resend.retain(|name| interest.wants(name));
    }

    fn lists_in_full(&self) -> bool {
        self.protocol == Protocol::Sotw && matches!(self.kind, Kind::Cluster | Kind::Listener)
    }

    fn accept(&mut self, sent: InFlight) {
        for resource in sent.changed {
            if self.interest.wants(&resource.name) {
                self.held.accept(resource);
            }
        }
        self.forget(sent.removed);
        self.window = self.window.saturating_mul(2);
        self.refusals_in_a_row = 0;
        if sent.complete && self.held.is_without_refusals() {
            self.acked = self.acked.max(sent.revision);
        }
    }

    /// The last good version stays. What was refused is not sent again until it changes; what merely travelled with it
    /// is, since the client may have dropped the whole response.
    fn refuse(&mut self, sent: InFlight, message: &str) {
        self.refusals_in_a_row += 1;
        let mut culprits = culprits(message, &sent.changed);
        if culprits.is_empty() {
            if sent.changed.len() > 1 && self.refusals_in_a_row < REFUSALS_MAX {
                self.window = sent.changed.len() / 2;
            } else {
                self.window = usize::MAX;
                culprits = sent.changed.iter().map(|resource| &resource.name).collect();
            }
        }
        let message: Arc<str> = message.into();
        for resource in sent.changed.iter().filter(|resource| self.interest.wants(&resource.name)) {
            if culprits.contains(&resource.name) {
                self.held.refuse(resource, &message);
            } else {
                self.held.doubt(resource);
            }
        }
        // Nothing can be wrong with a removal: who names the resource still is told by its own refusal.
        self.forget(sent.removed);
    }

    fn forget(&mut self, removed: Vec<Arc<str>>) {
        for name in removed {
            if self.protocol == Protocol::Delta && self.interest.named(&name) {
                self.held.set_missing(name);
            } else {
                self.held.remove(&name);
            }
        }
    }

    /// The next response, if one may be sent and there is something to say.
    pub(super) fn offer(
        &mut self,
        set: &ResourceSet,
        revision: u64,
        nonce: u64,
        removals: Removals,
    ) -> Option<Offered> {
        let due = self.dirty || (self.removals_due && removals == Removals::Now);
        if !self.is_open() || self.in_flight.is_some() || !due {
            return None;
        }
        let mut plan = self.plan(set);
        let gone = match removals {
            Removals::Now => mem::take(&mut plan.gone),
            Removals::Later => Vec::new(),
        };
        self.dirty = plan.more;
        self.removals_due = !plan.gone.is_empty();
        let silent = plan.changed.is_empty() && plan.missing.is_empty() && !self.answer_due;
        if silent && (gone.is_empty() || self.removes_in_silence()) {
            self.forget(gone);
            return None;
        }
        self.answer_due = false;
        let updated = plan.changed.iter().filter(|resource| self.held.knows(&resource.name));
        let updated = updated.map(|resource| resource.name.clone()).collect();
        for resource in &plan.changed {
            self.resend.remove(&resource.name);
        }
        for name in &plan.missing {
            self.resend.remove(name);
        }
        let resources = if self.lists_in_full() {
            self.held.in_full(|name| set.find(self.kind, name).cloned(), &plan.changed, &gone)
        } else {
            plan.changed.clone()
        };
        let removed: Vec<_> = plan.missing.into_iter().chain(gone).collect();
        let complete = !plan.more && plan.gone.is_empty();
        let told = if self.protocol == Protocol::Delta { removed.clone() } else { Vec::new() };
        self.in_flight = Some(InFlight { nonce, revision, changed: plan.changed, removed, complete });
        self.last_nonce = nonce;
        let response = Response { kind: self.kind, revision, nonce, resources, removed: told };
        Some(Offered { response, updated })
    }

    /// Finds out whether there is anything to add, without sending it: what must wait and lacks nothing is up to date.
    pub(super) fn glance(&mut self, set: &ResourceSet) {
        if self.dirty && self.in_flight.is_none() && !self.answer_due {
            let plan = self.plan(set);
            self.dirty = !plan.changed.is_empty() || !plan.missing.is_empty();
            self.removals_due = !plan.gone.is_empty();
        }
    }

    /// State of the world has no way to say that endpoints or routes are gone: whoever named them stops to.
    fn removes_in_silence(&self) -> bool {
        self.protocol == Protocol::Sotw && !self.lists_in_full()
    }

    fn plan(&mut self, set: &ResourceSet) -> Plan {
        let mut plan = Plan::default();
        let mut bytes = 0;
        let kind = self.kind;
        let exists = |name: &str| set.find(kind, name).is_some();
        self.resend.retain(|name| exists(name) || self.interest.named(name));
        let all = self.interest.wants_everything().then(|| set.of(self.kind)).into_iter().flatten();
        let by_name =
            (!self.interest.wants_everything()).then(|| self.interest.names()).into_iter().flatten();
        let by_name = by_name.filter_map(|name| set.find(self.kind, name));
        for resource in all.chain(by_name).filter(|resource| self.lacks(resource)) {
            let fits = plan.changed.is_empty()
                || self.lists_in_full()
                || bytes + resource.bytes.len() <= RESPONSE_BYTES_MAX;
            if plan.changed.len() >= self.window.max(1) || !fits {
                plan.more = true;
                break;
            }
            bytes += resource.bytes.len();
            plan.changed.push(resource.clone());
        }
        if self.protocol == Protocol::Delta {
            let untold = |name: &&Arc<str>| self.resend.contains(*name) || !self.held.knows(name);
            plan.missing
                .extend(self.interest.names().iter().filter(|name| !exists(name)).filter(untold).cloned());
        }
        let gone = self.held.names().filter(|name| !exists(name) && !self.resend.contains(*name));
        plan.gone.extend(gone.cloned());
        plan
    }

    fn lacks(&self, resource: &Resource) -> bool {
        self.resend.contains(&resource.name) || self.held.lacks(resource)
    }
}
