//! The agent's durable memory: the highest epoch of each subtask, and how each operation ended.

use std::collections::BTreeMap;

use obfleet_wire::agent::{AttemptKey, Outcome};

#[derive(Clone, Default)]
pub struct Journal {
    fences: BTreeMap<(i64, i64), i64>,
    ended: BTreeMap<String, Known>,
    names: BTreeMap<String, &'static str>,
}

type End = Result<Outcome, String>;

/// An end, and the epoch that had asked for it.
#[derive(Clone)]
struct Known {
    epoch: i64,
    end: End,
}

impl Journal {
    /// Lets in what is not below the highest epoch of the subtask, which it raises; `Err` is that epoch.
    pub fn admit(&mut self, subtask: (i64, i64), epoch: i64) -> Result<(), i64> {
        let highest = self.fences.entry(subtask).or_insert(epoch);
        if epoch < *highest {
            return Err(*highest);
        }
        *highest = epoch;
        Ok(())
    }

    /// Whether the key stands for this operation alone.
    pub fn is_name_of(&mut self, key: &AttemptKey, operation: &'static str) -> bool {
        *self.names.entry(key.to_string()).or_insert(operation) == operation
    }

    /// What is left to say: a success for ever, a failure only to those who had asked by then.
    pub fn answer_to(&self, key: &AttemptKey, epoch: i64) -> Option<End> {
        let known = self.ended.get(&key.to_string())?;
        (known.end.is_ok() || epoch <= known.epoch).then(|| known.end.clone())
    }

    pub fn end(&mut self, key: &AttemptKey, epoch: i64, end: End) {
        self.ended.insert(key.to_string(), Known { epoch, end });
    }
}
