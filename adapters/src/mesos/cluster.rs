//! What is known of one cluster: agents and tasks, from the state that a subscription begins with and the events after
//! it. Pure.
//!
//! A master that has just taken over knows its agents from the registry and none of their tasks: those stay as they were
//! until their agent is heard of, or is given up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::wire::{Agent, Event, State, Status, Task, TaskUpdated};

/// Framework and task: ids of tasks are unique within their framework.
pub(super) type TaskId = (String, String);

/// A task with its newest status.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) task: Task,
    pub(super) status: Status,
    /// The master has not heard of its agent since it leads.
    pub(super) recovered: bool,
}

/// One cluster.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    agents: HashMap<String, Agent>,
    tasks: BTreeMap<TaskId, Running>,
    recovered: BTreeSet<String>,
}

/// What an event has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Tasks that are other than before, or gone.
    pub(super) tasks: BTreeSet<TaskId>,
    /// An agent came back of which only the tasks from before were known: the whole state must be read again.
    pub(super) returned: bool,
}

impl Cluster {
    /// Replaces everything, but for what a new master does not know yet.
    pub(super) fn subscribed(&mut self, state: State) {
        let recovered = state.get_agents.recovered_agents;
        self.recovered = recovered.iter().map(|agent| agent.id.value.clone()).collect();
        let kept = std::mem::take(&mut self.tasks);
        let old = std::mem::take(&mut self.agents);
        self.agents = state.get_agents.agents.into_iter().map(keyed).collect();
        for info in recovered {
            let known = old.get(&info.id.value).cloned();
            self.agents.extend(known.map(keyed));
        }
        let lost = state.get_tasks.unreachable_tasks;
        for task in state.get_tasks.tasks.into_iter().chain(lost) {
            self.add(task);
        }
        for (id, running) in kept {
            if self.recovered.contains(&running.task.agent_id.value) {
                self.tasks.entry(id).or_insert(Running { recovered: true, ..running });
            }
        }
    }

    /// Takes an event.
    pub(super) fn event(&mut self, event: Event) -> Changed {
        let mut changed = Changed::default();
        if let Some(added) = event.task_added {
            changed.tasks.extend(self.add(added.task));
        }
        if let Some(updated) = event.task_updated {
            changed.tasks.extend(self.update(updated));
        }
        if let Some(added) = event.agent_added {
            changed.returned = self.recovered.remove(&added.agent.agent_info.id.value);
            self.agents.extend([keyed(added.agent)]);
        }
        if let Some(removed) = event.agent_removed {
            let id = removed.agent_id.value;
            self.agents.remove(&id);
            self.recovered.remove(&id);
            let gone = self.tasks.iter().filter(|(_, running)| running.task.agent_id.value == id);
            changed.tasks.extend(gone.map(|(task, _)| task.clone()));
            self.tasks.retain(|_, running| running.task.agent_id.value != id);
        }
        changed
    }

    fn add(&mut self, task: Task) -> Option<TaskId> {
        let id = (task.framework_id.value.clone(), task.task_id.value.clone());
        if is_terminal(&task.state) {
            return self.tasks.remove(&id).map(|_| id);
        }
        let newest = task.statuses.iter().max_by(|a, b| a.timestamp.total_cmp(&b.timestamp));
        let status = newest.cloned().unwrap_or_default();
        self.tasks.insert(id.clone(), Running { task, status, recovered: false });
        Some(id)
    }

    fn update(&mut self, updated: TaskUpdated) -> Option<TaskId> {
        let id = (updated.framework_id.value, updated.status.task_id.value.clone());
        // What comes late, after the end of a task, says nothing.
        let running = self.tasks.get_mut(&id)?;
        if is_terminal(&updated.state) {
            self.tasks.remove(&id);
            return Some(id);
        }
        running.task.state = updated.state;
        running.recovered = false;
        if !updated.status.agent_id.value.is_empty() {
            running.task.agent_id = updated.status.agent_id.clone();
        }
        running.status = updated.status;
        Some(id)
    }

    /// Every task.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.tasks.keys()
    }

    /// One task with its agent, if that is known.
    pub(super) fn task(&self, id: &TaskId) -> Option<(&Running, Option<&Agent>)> {
        let running = self.tasks.get(id)?;
        Some((running, self.agents.get(&running.task.agent_id.value)))
    }

    /// How many agents the master has not heard of since it leads.
    pub(super) fn recovered(&self) -> usize {
        self.recovered.len()
    }
}

fn keyed(agent: Agent) -> (String, Agent) {
    (agent.agent_info.id.value.clone(), agent)
}

fn is_terminal(state: &str) -> bool {
    matches!(
        state,
        "TASK_FINISHED"
            | "TASK_FAILED"
            | "TASK_KILLED"
            | "TASK_ERROR"
            | "TASK_LOST"
            | "TASK_DROPPED"
            | "TASK_GONE"
            | "TASK_GONE_BY_OPERATOR"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(task: &str) -> TaskId {
        ("f".into(), task.into())
    }

    fn task(name: &str, agent: &str) -> Value {
        json!({"name": "web", "task_id": {"value": name}, "framework_id": {"value": "f"},
            "agent_id": {"value": agent}, "state": "TASK_RUNNING"})
    }

    fn state(tasks: &[Value], agents: &[&str], recovered: &[&str]) -> State {
        let agents: Vec<Value> =
            agents.iter().map(|id| json!({"agent_info": {"id": {"value": id}}})).collect();
        let recovered: Vec<Value> = recovered.iter().map(|id| json!({"id": {"value": id}})).collect();
        let agents = json!({"agents": agents, "recovered_agents": recovered});
        serde_json::from_value(json!({"get_tasks": {"tasks": tasks}, "get_agents": agents})).unwrap()
    }

    fn updated(task: &str, state: &str, healthy: Option<bool>) -> Event {
        let status = json!({"task_id": {"value": task}, "agent_id": {"value": "s0"}, "state": state,
            "healthy": healthy.unwrap_or_default()});
        let mut event = json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "f"},
            "status": status, "state": state}});
        if healthy.is_none() {
            event["task_updated"]["status"].as_object_mut().unwrap().remove("healthy");
        }
        serde_json::from_value(event).unwrap()
    }

    fn two() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.subscribed(state(&[task("a", "s0"), task("b", "s1")], &["s0", "s1"], &[]));
        cluster
    }

    fn names(cluster: &Cluster) -> Vec<(&str, bool)> {
        cluster.tasks.iter().map(|((_, name), running)| (name.as_str(), running.recovered)).collect()
    }

    #[test]
    fn a_new_master_that_knows_no_tasks_takes_none_away() {
        let mut cluster = two();
        cluster.subscribed(state(&[], &[], &["s0", "s1"]));
        assert_eq!(names(&cluster), [("a", true), ("b", true)]);
        let returned = json!({"agent_added": {"agent": {"agent_info": {"id": {"value": "s0"}}}}});
        assert!(cluster.event(serde_json::from_value(returned).unwrap()).returned);
        cluster.subscribed(state(&[task("a", "s0")], &["s0"], &["s1"]));
        assert_eq!(names(&cluster), [("a", false), ("b", true)]);
        cluster.subscribed(state(&[task("a", "s0")], &["s0"], &[]));
        assert_eq!(names(&cluster), [("a", false)], "an agent that was given up takes its tasks along");
    }

    #[test]
    fn an_agent_that_is_removed_takes_its_tasks_along() {
        let mut cluster = two();
        let removed = json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "s1"}}});
        assert_eq!(cluster.event(serde_json::from_value(removed).unwrap()).tasks, [id("b")].into());
        assert_eq!(names(&cluster), [("a", false)]);
    }

    #[test]
    fn health_changes_in_the_same_state_count_and_what_is_late_does_not() {
        let mut cluster = two();
        for healthy in [Some(true), Some(false), Some(true), None] {
            assert_eq!(cluster.event(updated("a", "TASK_RUNNING", healthy)).tasks, [id("a")].into());
            assert_eq!(cluster.task(&id("a")).unwrap().0.status.healthy, healthy);
        }
        cluster.event(updated("a", "TASK_KILLED", None));
        assert_eq!(cluster.event(updated("a", "TASK_RUNNING", Some(true))), Changed::default());
        assert_eq!(names(&cluster), [("b", false)]);
    }

    #[test]
    fn events_of_other_kinds_and_enums_of_later_versions_change_nothing() {
        let text = json!({"type": "FRAMEWORK_UPDATED", "framework_updated": {"x": [{}]}});
        assert_eq!(two().event(serde_json::from_value(text).unwrap()), Changed::default());
    }
}
