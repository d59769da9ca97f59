//! The tests that kill servers, agents and guards at every point: of an upgrade, and of every other operation.

use std::process::Command;

/// What is wrong with the package of an upgrade; names of its points may begin with one.
const FAULTS: [&str; 4] = ["exit", "hang", "wrong-version", "no-login"];

/// `obfleet`'s tests of points by file and name: those of upgrades, and those of operations.
const UPGRADES: (&str, &str) = ("chaos", "every_point");
const OPERATIONS: (&str, &str) = ("operations", "every_operation");

/// The commands that run all points within this many minutes, one after the other: `long` makes a command for the tests of a
/// file, with these arguments.
pub fn all(long: impl Fn(&str, &[&str]) -> Command, minutes: u32) -> Vec<Command> {
    [UPGRADES, OPERATIONS]
        .map(|test| kills(&long, test, minutes / 2))
        .into()
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
