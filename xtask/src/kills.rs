//! The tests that kill servers, agents and guards at every point: of an upgrade, and of every other operation.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::succeed;

/// What is wrong with the package of an upgrade; names of its points may begin with one.
const FAULTS: [&str; 4] = ["exit", "hang", "wrong-version", "no-login"];

/// `obfleet`'s tests of points by file and name: those of upgrades, and those of operations.
const UPGRADES: (&str, &str) = ("chaos", "every_point");
const OPERATIONS: (&str, &str) = ("operations", "every_operation");

/// Runs all points within this many minutes: those of upgrades in half of it at the most, then the others in what is left. `long`
/// makes a command for the tests of a file, with these arguments.
pub fn all(long: impl Fn(&str, &[&str]) -> Command, minutes: u32) -> [Result<()>; 2] {
    let end = Instant::now() + Duration::from_secs(u64::from(minutes) * 60);
    let upgrades = succeed(&mut kills(&long, UPGRADES, minutes / 2));
    let left = end.saturating_duration_since(Instant::now()).as_secs() / 60;
    let left = u32::try_from(left).unwrap_or(minutes);
    [upgrades, succeed(&mut kills(&long, OPERATIONS, left))]
}

/// The command that runs one point, or all points whose names contain a text with a slash.
pub fn one(long: impl Fn(&str, &[&str]) -> Command, minutes: u32, point: &str) -> Command {
    let mut one = kills(long, file_of(point), minutes);
    one.env("OBFLEET_CHAOS_POINT", point);
    one
}

fn kills(long: impl Fn(&str, &[&str]) -> Command, (file, test): (&str, &str), minutes: u32) -> Command {
    let mut kills = long(file, &[test, "--exact", "--nocapture"]);
    kills.env("OBFLEET_CHAOS_MINUTES", minutes.to_string());
    kills
}

fn file_of(point: &str) -> (&'static str, &'static str) {
    match point.split_once('/') {
        Some((operation, _)) if !FAULTS.contains(&operation) => OPERATIONS,
        _ => UPGRADES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_run_by_the_test_that_knows_it() {
        for point in [
            "server@7",
            "guard@17:judging",
            "exit/server@9:undo",
            "no-login/agent@3:undo",
        ] {
            assert_eq!(file_of(point), UPGRADES, "{point}");
        }
        for point in ["stop/server@3", "start/exit:retry", "add/"] {
            assert_eq!(file_of(point), OPERATIONS, "{point}");
        }
    }
}
