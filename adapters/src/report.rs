//! What one look at a platform found.

use crate::catalog::Item;
use crate::http::ReadError;

/// What was tried, and what it brought.
#[derive(Debug, Default)]
pub struct Report {
    /// Every step, in the order tried.
    pub findings: Vec<Finding>,
    /// What would be told.
    pub items: Vec<Item>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was found, and what to do where that is not good.
    pub what: String,
    /// What is wrong; `None` when nothing is.
    pub trouble: Option<Trouble>,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The platform does not answer, or not what such a platform answers.
    Platform,
    /// The platform does not let us read.
    NotAuthorised,
    /// Something that the platform says cannot be told, or not be trusted.
    Content,
    /// A control plane takes no connections.
    ControlPlane,
}

impl Trouble {
    /// What it is about a question without a good answer.
    pub(crate) fn of(error: &ReadError) -> Trouble {
        if error.is_refusal() { Trouble::NotAuthorised } else { Trouble::Platform }
    }
}

impl Report {
    pub(crate) fn good(&mut self, what: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), trouble: None });
    }

    pub(crate) fn bad(&mut self, trouble: Trouble, what: impl Into<String>) {
        self.findings.push(Finding { what: what.into(), trouble: Some(trouble) });
    }
}
