//! Hash tables in use, so that the first worker to need one makes it and the others take it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::balance::table::{Plan, Table};

/// The tables of one cluster, while any worker uses them. Asked only when a configuration comes.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<Vec<(Plan, Weak<Table>)>>);

impl Tables {
    /// The table of a plan.
    pub(super) fn get(&self, plan: Plan) -> Arc<Table> {
        // Held while a table is made: the other workers need the same one, and would make it themselves.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, table)| table.strong_count() > 0);
        let found = known.iter().find(|(of, _)| *of == plan).and_then(|(_, table)| table.upgrade());
        found.unwrap_or_else(|| {
            let table = Arc::new(plan.build());
            known.push((plan, Arc::downgrade(&table)));
            table
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{balance::table::Kind, spec::Maglev};

    #[test]
    fn equal_plans_share_a_table() {
        let plan = |table_size| Plan {
            kind: Kind::Maglev(Maglev { table_size, by_hostname: false }),
            entries: Vec::new(),
        };
        let tables = Tables::default();
        let first = tables.get(plan(7));
        assert!(Arc::ptr_eq(&first, &tables.get(plan(7))));
        assert!(!Arc::ptr_eq(&first, &tables.get(plan(11))));
    }
}
