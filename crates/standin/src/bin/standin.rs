//! The stand-in by itself: only useful as a copy with a trailer.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match obfleet_standin::is_standin(Path::new("/proc/self/exe")) {
        Ok(Some(trailer)) => obfleet_standin::main(trailer),
        Ok(None) => {
            eprintln!("this executable carries no trailer: make a copy with obfleet_standin::pack and run that");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("cannot read this executable's trailer: {error}");
            ExitCode::from(2)
        }
    }
}
