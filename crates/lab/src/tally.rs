//! Many points, each in a run of its own, for as long as there is time: their order, and what is told at the end.

use std::{
    env,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    time::{Duration, Instant},
};

/// Minutes that all of it may take.
const BUDGET: &str = "OBFLEET_CHAOS_MINUTES";
/// Which points to run; all of them without it.
const POINT: &str = "OBFLEET_CHAOS_POINT";

/// Another executable to strike than the one built with the tests: that of a release leaves more of the machine to others.
const EXE: &str = "OBFLEET_CHAOS_EXE";

/// The executable that is struck, unless there is another one.
pub fn struck(built: &str) -> PathBuf {
    env::var_os(EXE).map_or_else(|| built.into(), PathBuf::from)
}

/// What became of points, by their names.
#[derive(Debug, Default)]
pub struct Tally {
    /// Those that were struck, the failed ones among them.
    pub run: Vec<String>,
    /// Those whose moment was too short.
    pub missed: Vec<String>,
    /// Those that did not end as they have to.
    pub failed: Vec<String>,
    /// Those there was no time for.
    pub left: Vec<String>,
}

impl Tally {
    /// Counts one that failed.
    pub fn fail(&mut self, name: String) {
        self.run.push(name.clone());
        self.failed.push(name);
    }

    /// Takes all of the other's.
    pub fn add(&mut self, other: Self) {
        self.run.extend(other.run);
        self.missed.extend(other.missed);
        self.failed.extend(other.failed);
        self.left.extend(other.left);
    }

    /// Tells it on standard error.
    ///
    /// # Panics
    /// When one has failed, or none was run.
    pub fn judge(&self) {
        eprintln!(
            "{} of {} points were run, {} did not come, {} were left for want of time (--budget), {} failed",
            self.run.len(),
            self.run.len() + self.missed.len() + self.left.len(),
            self.missed.len(),
            self.left.len(),
            self.failed.len()
        );
        if !self.missed.is_empty() {
            eprintln!("did not come: {}", self.missed.join(" "));
        }
        for name in &self.failed {
            eprintln!("failed: cargo xtask test --long --point {name}");
        }
        assert!(self.failed.is_empty(), "{} points failed", self.failed.len());
        assert!(!self.run.is_empty(), "no point was run");
    }
}

/// The points that whoever started this wants, by name.
pub fn wanted() -> Option<String> {
    env::var(POINT).ok()
}

/// When the time is over; with so many minutes unless told otherwise.
///
/// # Panics
/// When what was told is no number.
pub fn end(minutes: u64) -> Instant {
    let told = env::var(BUDGET).ok();
    let minutes = told.map_or(minutes, |text| {
        text.parse().unwrap_or_else(|_| panic!("{BUDGET}={text} is no number"))
    });
    Instant::now() + Duration::from_secs(minutes * 60)
}

/// What to sort points by so that all kinds are mixed, in an order that is the same each time: a run that is cut off has seen
/// some of each.
pub fn mixed(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
