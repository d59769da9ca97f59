//! Who asks: the name of an attempt, and the fence by which a newer one takes over.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names one attempt of one subtask for ever, within one installation and era.
///
/// Written as `installation.era.task.subtask.OPERATION.run`; none of the parts contains a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptKey {
    /// Random id of the server's database.
    pub installation: String,
    /// Raised when the database is restored from a backup.
    pub era: u64,
    /// The task.
    pub task: i64,
    /// The subtask.
    pub subtask: i64,
    /// EXECUTE, RETRY, ROLLBACK; one attempt may send several operations, told apart by a suffix such as `EXECUTE-2`.
    pub operation: String,
    /// The subtask's run_time.
    pub run: i64,
}

/// The text is not an attempt key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an attempt key")]
pub struct AttemptKeyError(pub String);

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            installation,
            era,
            task,
            subtask,
            operation,
            run,
        } = self;
        write!(f, "{installation}.{era}.{task}.{subtask}.{operation}.{run}")
    }
}

impl FromStr for AttemptKey {
    type Err = AttemptKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split('.');
            let word = |part: &str| {
                let ok = !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                ok.then(|| part.to_owned())
            };
            let key = Self {
                installation: word(parts.next()?)?,
                era: parts.next()?.parse().ok()?,
                task: parts.next()?.parse().ok()?,
                subtask: parts.next()?.parse().ok()?,
                operation: word(parts.next()?)?,
                run: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(key)
        };
        parse().ok_or_else(|| AttemptKeyError(text.to_owned()))
    }
}

impl TryFrom<String> for AttemptKey {
    type Error = AttemptKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AttemptKey> for String {
    fn from(key: AttemptKey) -> Self {
        key.to_string()
    }
}

/// A new attempt of a subtask takes over, before it touches anything: epochs below its own are refused, and what earlier
/// attempts began is broken off or waited out. What the attempt itself began under a lower epoch goes on: its server was
/// replaced, or it is an undo that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Installation and era of the caller.
    pub installation: String,
    /// See [`AttemptKey::era`].
    pub era: u64,
    /// The task.
    pub task: i64,
    /// The subtask.
    pub subtask: i64,
    /// EXECUTE, RETRY or ROLLBACK: the first word of the [`AttemptKey::operation`] of all that the attempt asks for.
    pub attempt: String,
    /// See [`AttemptKey::run`].
    pub run: i64,
    /// The lowest epoch still let in.
    pub epoch: i64,
}

impl AttemptKey {
    /// What operations of one attempt have in common: the subtask, what is done with it, and for which time.
    fn attempt(&self) -> (&str, u64, i64, i64, &str, i64) {
        let first_word = self.operation.split('-').next().unwrap_or_default();
        let Self {
            installation,
            era,
            task,
            subtask,
            run,
            ..
        } = self;
        (installation, *era, *task, *subtask, first_word, *run)
    }

    /// Whether both are asked for by one attempt, whichever servers make it.
    pub fn is_of_attempt_of(&self, other: &Self) -> bool {
        self.attempt() == other.attempt()
    }
}

impl Fence {
    /// Whether the operation belongs to the attempt that fences.
    pub fn is_own(&self, key: &AttemptKey) -> bool {
        let Self {
            installation,
            era,
            task,
            subtask,
            attempt,
            run,
            ..
        } = self;
        key.attempt() == (installation, *era, *task, *subtask, attempt, *run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_keys_round_trip() {
        let key = AttemptKey {
            installation: "ab12".into(),
            era: 1,
            task: 5,
            subtask: 7,
            operation: "EXECUTE-2".into(),
            run: 1,
        };
        assert_eq!(key.to_string(), "ab12.1.5.7.EXECUTE-2.1");
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "a.1.2.3.E", "a.1.2.3.E.1.1", "../x.1.2.3.E.1", "a.x.2.3.E.1"] {
            assert!(text.parse::<AttemptKey>().is_err(), "{text}");
        }
    }
}
