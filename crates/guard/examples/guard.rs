//! What the process tests run: the guard, and with a trailer the stand-in proxy it restarts.
//!
//! A file `die-at` in the restart's directory names a phase: the guard that reaches it ends as by `kill -9`, once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::sys::signal::{Signal, raise};
use obfleet_guard::Phase;

fn main() -> ExitCode {
    if let Ok(Some(trailer)) = obfleet_standin::is_standin(Path::new("/proc/self/exe")) {
        obfleet_standin::main(trailer);
    }
    let arguments: Vec<String> = std::env::args().collect();
    let [_, command, dir] = &arguments[..] else {
        return ExitCode::from(2);
    };
    if command != "guard" {
        return ExitCode::from(2);
    }
    let dir = PathBuf::from(dir);
    let die_at = dir.join("die-at");
    obfleet_guard::main_observed(&dir, move |phase: &Phase| {
        if fs::read_to_string(&die_at).is_ok_and(|name| name == phase.name()) {
            fs::remove_file(&die_at).expect("the order to die can be taken");
            raise(Signal::SIGKILL).expect("a process can end itself");
        }
    })
}
