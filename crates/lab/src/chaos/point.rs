//! Where an upgrade can be struck. A point has a name, by which it can be repeated alone: `server@7`, `guard@17:judging`,
//! `exit/agent@17:reverting`, `hang/server@9:undo`.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::packages::Fault;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The server.
    Server,
    /// The agent of the step's host; of the first host where the step has none.
    Agent,
    /// The guard of the step's proxy.
    Guard,
    /// All three at once, as when memory runs out.
    Everybody,
}

impl Victim {
    const ALL: [Self; 4] = [Self::Server, Self::Agent, Self::Guard, Self::Everybody];

    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
            Self::Guard => "guard",
            Self::Everybody => "everybody",
        }
    }

    /// Whether a guard dies, which nobody starts again.
    pub fn is_guard(self) -> bool {
        matches!(self, Self::Guard | Self::Everybody)
    }
}

/// How far the guard of a restart is, in the order in which it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing is changed yet.
    Preparing,
    /// The new file is at its place.
    Swapped,
    /// The restart is ordered; there is no child, or it is not ready.
    Triggered,
    /// The child is being judged.
    Judging,
    /// The child was found good, the old process is being emptied.
    Draining,
    /// On the way back.
    Reverting,
    /// Finished, reverted or broken.
    Over,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Preparing,
        Self::Swapped,
        Self::Triggered,
        Self::Judging,
        Self::Draining,
        Self::Reverting,
    ];

    /// The phase with this name in a guard's state.
    pub fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|phase| phase.name() == name);
        found.unwrap_or(Self::Over)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Swapped => "swapped",
            Self::Triggered => "triggered",
            Self::Judging => "judging",
            Self::Draining => "draining",
            Self::Reverting => "reverting",
            Self::Over => "over",
        }
    }
}

/// At which moment of its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has begun.
    Begun,
    /// Its guard has come to this phase.
    Guard(Phase),
    /// Its undo has begun.
    Undo,
}

/// A step of a task, as far as kills are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// From 1, in the order in which the task's graph allows its steps.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// The proxy it is about, counted from 0.
    pub branch: Option<usize>,
}

const RESTART: &str = "Hot restart obproxy";
const DRAIN: &str = "Wait hot restart obproxy finish";

/// The steps of a task as the API shows it.
pub fn steps(task: &Value) -> Vec<Step> {
    in_order(task)
        .iter()
        .enumerate()
        .map(|(index, step)| Step {
            number: index + 1,
            name: step["name"].as_str().unwrap_or_default().to_owned(),
            branch: step["parallelIdx"]
                .as_u64()
                .and_then(|index| usize::try_from(index).ok()),
        })
        .collect()
}

/// A task's subtasks by their ids, which ascend along its graph.
pub fn in_order(task: &Value) -> Vec<&Value> {
    let mut found: Vec<_> = task["subtasks"].as_array().into_iter().flatten().collect();
    found.sort_by_key(|step| step["id"].as_i64());
    found
}

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// What is wrong with the new package.
    pub fault: Option<Fault>,
    /// Who is killed.
    pub victim: Victim,
    /// The step's number.
    pub step: usize,
    /// When.
    pub moment: Moment,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fault) = self.fault {
            write!(f, "{}/", fault.name())?;
        }
        write!(f, "{}@{}", self.victim.name(), self.step)?;
        match self.moment {
            Moment::Begun => Ok(()),
            Moment::Guard(phase) => write!(f, ":{}", phase.name()),
            Moment::Undo => write!(f, ":undo"),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let wrong = || format!("{name} is no point: [fault/](server|agent|guard|everybody)@step[:phase|:undo]");
        let (fault, rest) = match name.split_once('/') {
            Some((fault, rest)) => (Some(Fault::parse(fault)?), rest),
            None => (None, name),
        };
        let (victim, rest) = rest.split_once('@').ok_or_else(wrong)?;
        let (step, moment) = rest.split_once(':').map_or((rest, None), |(step, m)| (step, Some(m)));
        let victim = Victim::ALL.into_iter().find(|known| known.name() == victim);
        let moment = match moment {
            None => Some(Moment::Begun),
            Some("undo") => Some(Moment::Undo),
            Some(phase) => {
                let known = Phase::ALL.into_iter().find(|known| known.name() == phase);
                known.map(Moment::Guard)
            }
        };
        Ok(Self {
            fault,
            victim: victim.ok_or_else(wrong)?,
            step: step.parse().map_err(|_| wrong())?,
            moment: moment.ok_or_else(wrong)?,
        })
    }
}

/// Every point of an upgrade with these steps: to a sound package, and to a bad one in each of the known ways.
pub fn all(steps: &[Step]) -> Vec<Point> {
    let mut points = forward(steps);
    for fault in Fault::ALL {
        points.extend(backward(steps, fault));
    }
    points
}

/// Server and agent at the beginning of each step, and everyone in each phase of a restart.
fn forward(steps: &[Step]) -> Vec<Point> {
    let mut points = Vec::new();
    for step in steps {
        points.extend(at(None, step, Moment::Begun, &[Victim::Server, Victim::Agent]));
        for phase in phases(step) {
            points.extend(at(None, step, Moment::Guard(*phase), &Victim::ALL));
        }
    }
    points
}

fn phases(step: &Step) -> &'static [Phase] {
    match step.name.as_str() {
        RESTART => &[Phase::Preparing, Phase::Swapped, Phase::Triggered, Phase::Judging],
        DRAIN => &[Phase::Draining],
        _ => &[],
    }
}

/// A bad package is found out in the first restart: the points of the guard's way back, and of the rollback of what
/// came before.
fn backward(steps: &[Step], fault: Fault) -> Vec<Point> {
    let Some(failing) = steps.iter().position(|step| step.name == RESTART) else {
        return Vec::new();
    };
    let mut points = Vec::new();
    for phase in [Phase::Triggered, Phase::Judging, Phase::Reverting] {
        points.extend(at(Some(fault), &steps[failing], Moment::Guard(phase), &Victim::ALL));
    }
    for step in steps[..=failing].iter().rev() {
        points.extend(at(Some(fault), step, Moment::Undo, &[Victim::Server, Victim::Agent]));
    }
    points
}

fn at(fault: Option<Fault>, step: &Step, moment: Moment, victims: &[Victim]) -> Vec<Point> {
    let point = |victim| Point {
        fault,
        victim,
        step: step.number,
        moment,
    };
    victims.iter().copied().map(point).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn upgrade() -> Vec<Step> {
        steps(&json!({"subtasks": [
            {"id": 12, "name": RESTART, "parallelIdx": 0},
            {"id": 10, "name": "Start node", "parallelIdx": -1},
            {"id": 11, "name": "Check new binary", "parallelIdx": 0},
            {"id": 13, "name": DRAIN, "parallelIdx": 0},
            {"id": 14, "name": "Finish node", "parallelIdx": -1},
        ]}))
    }

    #[test]
    fn steps_are_numbered_along_the_graph() {
        let steps = upgrade();
        let names: Vec<_> = steps.iter().map(|step| (step.number, step.name.as_str())).collect();
        assert_eq!(names[0], (1, "Start node"));
        assert_eq!(names[2], (3, RESTART));
        assert_eq!((steps[0].branch, steps[1].branch), (None, Some(0)));
    }

    #[test]
    fn every_point_is_found_again_by_its_name() {
        let points = all(&upgrade());
        for point in &points {
            assert_eq!(point.to_string().parse(), Ok(*point));
        }
        let names: std::collections::HashSet<_> = points.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), points.len());
        for name in ["server@1", "agent@5", "guard@3:triggered", "everybody@4:draining"] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["exit/guard@3:reverting", "no-login/agent@2:undo", "hang/server@1:undo"] {
            assert!(names.contains(name), "{name}");
        }
        assert!(!names.contains("guard@1") && !names.contains("exit/server@4:undo"));
        for name in ["", "server", "server@", "somebody@1", "server@1:later", "rust/server@1"] {
            assert!(name.parse::<Point>().is_err(), "{name}");
        }
    }

    #[test]
    fn phases_come_one_after_another() {
        assert!(Phase::ALL.is_sorted());
        assert!(Phase::named("finished") > Phase::named("reverting"));
    }
}
