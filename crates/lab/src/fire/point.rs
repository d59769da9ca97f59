//! Where an operation can be struck. A point has a name, by which it can be repeated alone: `stop/server@3`,
//! `stop/cancel@3:retry`, `stop/full@5:rollback`, `start/exit:rollback`, `stop/agent@3:undo`.

use std::{fmt, str::FromStr};

use serde_json::Value;

use super::operation::Operation;
use crate::chaos::point::in_order;

/// Whom a kill is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The server.
    Server,
    /// The agent of the step's host.
    Agent,
    /// Both at once.
    Both,
}

/// The way out of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The task is tried again.
    Retry,
    /// It is taken back.
    Rollback,
}

/// What befalls an operation. Steps are numbered from 1, in the order in which the task's graph allows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// A kill when this step has begun; who is killed is started again at once.
    Kill(Victim, usize),
    /// The task is cancelled when this step has begun.
    Cancel(usize, Way),
    /// The agent of this step's host ends when it has begun, and is back only after the task was cancelled; or the sshd of the
    /// machine that has no agent yet.
    Away(usize, Way),
    /// From when this step has begun its agent cannot write down what it knows of its proxies, until the task has failed by it.
    Full(usize, Way),
    /// The task is cancelled when this step has begun and rolled back, and the kill comes when its undo has begun.
    Undo(Victim, usize),
    /// Something is wrong, until the task has failed by it: the operation's cause with this number.
    Cause(usize, Way),
}

/// A blow to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which operation.
    pub operation: Operation,
    /// What befalls it.
    pub blow: Blow,
}

const VICTIMS: [(Victim, &str); 3] = [
    (Victim::Server, "server"),
    (Victim::Agent, "agent"),
    (Victim::Both, "both"),
];
const WAYS: [(Way, &str); 2] = [(Way::Retry, "retry"), (Way::Rollback, "rollback")];
/// Steps that do nothing.
const BARRIERS: [&str; 3] = ["Start node", "Wait node", "Finish node"];

fn name_of<T: PartialEq>(table: &[(T, &'static str)], wanted: &T) -> &'static str {
    table.iter().find(|(one, _)| one == wanted).map_or("", |(_, name)| name)
}

fn named<T: Copy>(table: &[(T, &str)], name: &str) -> Option<T> {
    table.iter().find(|(_, known)| *known == name).map(|(one, _)| *one)
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.operation.name())?;
        match self.blow {
            Blow::Kill(victim, step) => write!(f, "{}@{step}", name_of(&VICTIMS, &victim)),
            Blow::Cancel(step, way) => write!(f, "cancel@{step}:{}", name_of(&WAYS, &way)),
            Blow::Away(step, way) => write!(f, "away@{step}:{}", name_of(&WAYS, &way)),
            Blow::Full(step, way) => write!(f, "full@{step}:{}", name_of(&WAYS, &way)),
            Blow::Undo(victim, step) => write!(f, "{}@{step}:undo", name_of(&VICTIMS, &victim)),
            Blow::Cause(number, way) => {
                let cause = self.operation.causes().get(number).copied().unwrap_or_default();
                write!(f, "{cause}:{}", name_of(&WAYS, &way))
            }
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let read = || {
            let (operation, rest) = name.split_once('/')?;
            let operation = Operation::named(operation)?;
            let (rest, then) = rest
                .split_once(':')
                .map_or((rest, None), |(rest, then)| (rest, Some(then)));
            let way = then.and_then(|then| named(&WAYS, then));
            let Some((what, step)) = rest.split_once('@') else {
                let cause = operation.causes().iter().position(|cause| *cause == rest)?;
                return Some((operation, Blow::Cause(cause, way?)));
            };
            let step = step.parse().ok()?;
            let blow = match (what, then) {
                ("cancel", Some(_)) => Blow::Cancel(step, way?),
                ("away", Some(_)) => Blow::Away(step, way?),
                ("full", Some(_)) => Blow::Full(step, way?),
                (victim, None) => Blow::Kill(named(&VICTIMS, victim)?, step),
                (victim, Some("undo")) => Blow::Undo(named(&VICTIMS, victim)?, step),
                _ => return None,
            };
            Some((operation, blow))
        };
        let wrong = || {
            format!(
                "{name} is no point: operation/(server|agent|both)@step[:undo], operation/(cancel|away|full)@step:(retry|rollback) \
                 or operation/cause:(retry|rollback)"
            )
        };
        let (operation, blow) = read().ok_or_else(wrong)?;
        Ok(Self { operation, blow })
    }
}

/// Every point of an operation whose task is this one. Branches are alike but for the first and the last: one comes
/// before the others, one after them.
pub fn all(operation: Operation, task: &Value) -> Vec<Point> {
    let steps = in_order(task);
    let last = steps.iter().filter_map(|step| step["parallelIdx"].as_i64()).max();
    let is_struck = |step: &&(usize, &&Value)| {
        let branch = step.1["parallelIdx"].as_i64().unwrap_or(-1);
        let does_nothing = BARRIERS.iter().any(|name| step.1["name"] == *name);
        !does_nothing && (branch <= 0 || Some(branch) == last)
    };
    let numbered: Vec<_> = (1..).zip(&steps).collect();
    let mut blows = Vec::new();
    let has_agent = !operation.is_over_ssh();
    for (number, _) in numbered.iter().filter(is_struck) {
        blows.push(Blow::Kill(Victim::Server, *number));
        blows.push(Blow::Undo(Victim::Server, *number));
        if has_agent {
            blows.extend([Victim::Agent, Victim::Both].map(|victim| Blow::Kill(victim, *number)));
            blows.push(Blow::Undo(Victim::Agent, *number));
            blows.extend(WAYS.map(|(way, _)| Blow::Full(*number, way)));
        }
        for (way, _) in WAYS {
            blows.extend([Blow::Cancel(*number, way), Blow::Away(*number, way)]);
        }
    }
    for number in 0..operation.causes().len() {
        blows.extend(WAYS.map(|(way, _)| Blow::Cause(number, way)));
    }
    blows.into_iter().map(|blow| Point { operation, blow }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_point_is_found_again_by_its_name() {
        let steps: Vec<_> = [
            ("Start node", -1),
            ("a", 0),
            ("a", 1),
            ("a", 2),
            ("Wait node", -1),
            ("b", -1),
        ]
        .into_iter()
        .zip(1..)
        .map(|((name, branch), id)| json!({"id": id, "name": name, "parallelIdx": branch}))
        .collect();
        let task = json!({"subtasks": steps});
        let points: Vec<_> = Operation::ALL.into_iter().flat_map(|one| all(one, &task)).collect();
        for point in &points {
            assert_eq!(point.to_string().parse(), Ok(*point));
        }
        let names: HashSet<_> = points.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), points.len());
        for name in [
            "stop/server@2",
            "stop/away@4:retry",
            "start/exit:rollback",
            "stop/agent@6:undo",
        ] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["stop/server@1", "stop/server@3", "stop/server@5"] {
            assert!(!names.contains(name), "{name}");
        }
        for name in [
            "",
            "stop",
            "stop/server",
            "stop/server@2:retry",
            "stop/cancel@2",
            "sit/server@1",
            "stop/exit:retry",
        ] {
            assert!(name.parse::<Point>().is_err(), "{name}");
        }
    }
}
