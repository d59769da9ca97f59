//! Room for connections.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// More than anybody's clients, and not so many that the table of them costs memory.
const MOST: rlim_t = 65_536;

/// Lets the process have as many open files and connections as the system allows it.
///
/// Shells and systemd give a process 1,024 unless it asks for more. Whoever opened as many connections and said nothing would
/// keep everybody else out until they time out.
pub fn make_room() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let wanted = hard.min(MOST).max(soft);
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    });
    if let Err(error) = raised {
        eprintln!(
            "obfleet: the number of connections stays as it was given ({error}); raise it by LimitNOFILE or ulimit -n"
        );
    }
}
