//! Scripts for a shell on another machine, and what they answer.
//!
//! A script arrives on the shell's standard input, whole before anything of it is done. Its answers are lines that begin with
//! a mark of their own: whatever else a login or a tool writes is passed over, and an end that is missing is noticed.

use std::collections::BTreeMap;

use crate::remote::{Exit, Remote, RemoteError};

/// What answers begin with.
const MARK: &str = "obfleet:";
/// The last of them.
const END: &str = "end";
/// Lines of complaints that are worth telling.
const TOLD: usize = 5;

/// The shell's own name on its command line, by which scripts find each other.
pub(crate) const SHELL: &str = "sh -s obfleet-bootstrap";

/// A text as one word of a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What a script said, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers(BTreeMap<String, String>);

impl Answers {
    /// One of them; empty when it was not given.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// One that is a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name).parse().ok()
    }

    /// One that is a yes.
    pub fn is(&self, name: &str) -> bool {
        self.text(name) == "yes"
    }

    /// Those in `output`, and whether they are all.
    fn read(output: &str) -> (Self, bool) {
        let lines = output.lines().filter_map(|line| line.trim_end().strip_prefix(MARK));
        let mut answers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let ended = answers.remove(END).is_some();
        (Self(answers), ended)
    }
}

/// A script did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The machine.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// It stopped.
    #[error("the shell there ended with {status}: {said}")]
    Stopped {
        /// How it ended.
        status: String,
        /// The last it said, one line.
        said: String,
    },
}

/// Runs `script` with these variables set; as root by way of sudo if `sudo`. `name` names it among scripts of the machine.
pub async fn run(
    remote: &dyn Remote,
    sudo: bool,
    name: &str,
    script: &str,
    variables: &[(&str, &str)],
) -> Result<Answers, ScriptError> {
    let command = format!("{}{SHELL} {}", sudo_prefix(sudo), quoted(name));
    let exit = remote.exec(&command, text(script, variables).as_bytes()).await?;
    answers(&exit)
}

/// What makes a command run as root.
pub(crate) fn sudo_prefix(sudo: bool) -> &'static str {
    if sudo { "sudo -n " } else { "" }
}

/// The whole of it is one function: the shell has read it to its end before it does anything, and what it runs has no part of
/// it to read.
fn text(script: &str, variables: &[(&str, &str)]) -> String {
    let set: String = variables
        .iter()
        .map(|(name, value)| format!("{name}={}\n", quoted(value)))
        .collect();
    format!(
        "LC_ALL=C\nexport LC_ALL\nset -eu\numask 022\ntell() {{ echo \"{MARK}$1=$2\"; }}\n{set}main() {{\n{script}\n}}\n\
         main </dev/null\ntell {END} yes\nexit 0\n"
    )
}

fn answers(exit: &Exit) -> Result<Answers, ScriptError> {
    let (answers, ended) = Answers::read(&exit.stdout);
    if exit.status == Some(0) && ended {
        return Ok(answers);
    }
    let status = exit
        .status
        .map_or_else(|| "a signal".to_owned(), |status| format!("status {status}"));
    let lines: Vec<_> = exit
        .stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(TOLD)..];
    let said = match last {
        [] => "it said nothing".to_owned(),
        _ => last.join("; "),
    };
    Err(ScriptError::Stopped { status, said })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    /// A shell of this machine.
    fn shell(text: &str) -> Exit {
        let mut shell = Command::new("sh")
            .arg("-s")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        Exit {
            status: output.status.code().map(i32::cast_unsigned),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[test]
    fn variables_arrive_as_they_are() {
        let odd = "a'b\"c $(id) `id` \\ * \t;x=1";
        let told = answers(&shell(&text("tell odd \"$odd\"", &[("odd", odd)]))).unwrap();
        assert_eq!(told.text("odd"), odd);
        assert_eq!(told.text("even"), "");
    }

    #[test]
    fn other_output_is_passed_over() {
        let script = "echo welcome; echo obfleet; tell port 17; echo 'port=18'; tell up yes";
        let told = answers(&shell(&text(script, &[]))).unwrap();
        assert_eq!(
            (told.number("port"), told.is("up"), told.is("down")),
            (Some(17), true, false)
        );
    }

    #[test]
    fn what_stops_half_way_is_no_answer() {
        for script in [
            "tell a 1; false; tell b 2",
            "tell a 1; echo it broke >&2; exit 0",
            "kill -9 $$",
        ] {
            let error = answers(&shell(&text(script, &[]))).unwrap_err();
            assert!(matches!(error, ScriptError::Stopped { .. }), "{script}: {error}");
        }
        let error = answers(&shell(&text("echo it broke >&2; exit 3", &[]))).unwrap_err();
        assert_eq!(error.to_string(), "the shell there ended with status 3: it broke");
        let error = answers(&shell(&text("echo $missing", &[]))).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn what_a_script_runs_does_not_eat_it() {
        let told = answers(&shell(&text("cat; tell a 1", &[]))).unwrap();
        assert_eq!(told.text("a"), "1");
    }
}
