//! A shell between a program and whoever started it: a line of its input is a signal for the program; when the input ends,
//! and that is also when the starter is killed, it kills the program, and removes what nobody else is left to remove.

use std::path::Path;
use std::process::Command;

/// The folder to remove and the program's arguments follow; file 3 keeps the input, which the shell takes from processes in
/// the background.
const KEEPER: &str = r#"doomed=$1
shift
exec 3<&0
"$@" 3<&- &
program=$!
(while read -r signal <&3; do kill "-$signal" $program; done; kill -KILL $program) 2>/dev/null &
watch=$!
wait $program
status=$?
kill $watch 2>/dev/null
[ -z "$doomed" ] || rm -rf -- "$doomed"
exit $status"#;

/// `command` under a keeper: same arguments, same changes to the environment. The folder `doomed` goes with it.
pub(crate) fn kept(command: &Command, doomed: Option<&Path>) -> Command {
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEPER, "keeper"]);
    keeper.arg(doomed.unwrap_or(Path::new("")));
    keeper.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => keeper.env(name, value),
            None => keeper.env_remove(name),
        };
    }
    keeper
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_program_ends_with_its_input_and_its_folder_goes() {
        let doomed = tempfile::tempdir().unwrap();
        let mut program = Command::new("sleep");
        program.arg("1000");
        let mut keeper = kept(&program, Some(doomed.path()))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(keeper.try_wait().unwrap(), None);
        drop(keeper.stdin.take());
        // 128 + SIGKILL.
        assert_eq!(keeper.wait().unwrap().code(), Some(137));
        assert!(!doomed.path().exists());
    }

    #[test]
    fn a_line_is_a_signal_for_the_program() {
        let mut program = Command::new("sh");
        program.args(["-c", "trap 'echo heard' USR1; echo ready; while :; do sleep 0.01; done"]);
        let mut keeper = kept(&program, None);
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(keeper.stdout.take().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        for _ in 0..2 {
            writeln!(keeper.stdin.as_mut().unwrap(), "USR1").unwrap();
            assert_eq!(said.next().unwrap().unwrap(), "heard");
        }
        drop(keeper.stdin.take());
        assert_eq!(keeper.wait().unwrap().code(), Some(137));
    }

    #[test]
    fn a_program_that_ends_by_itself_gives_its_status() {
        let mut program = Command::new("sh");
        program.args(["-c", "exit $status"]).env("status", "7");
        let mut keeper = kept(&program, None).stdin(Stdio::piped()).spawn().unwrap();
        // Waiting closes an input that is still there.
        let _input = keeper.stdin.take();
        assert_eq!(keeper.wait().unwrap().code(), Some(7));
    }
}
