//! Whether an agent can be put on a machine as it was seen.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use crate::bootstrap::{Access, Inspection, Mark};

/// How far the clocks may be apart: certificates are good from a minute before they are made.
const MOST_SKEW_MS: i64 = 30_000;
/// Room for logs, a package and its slot beside the agent's executable.
const ROOM: u64 = 512 << 20;

/// Something in the way of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// No agent is there for its architecture.
    Architecture(String),
    /// Programs are missing.
    Programs(Vec<String>),
    /// The user may not write there.
    Directory {
        /// The directory.
        root: String,
        /// Who would.
        user: String,
    },
    /// Something else is there.
    Occupied(String),
    /// Not enough is free.
    Space {
        /// The directory.
        root: String,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// Its clock is wrong, or the server's is.
    Clock {
        /// How far it is ahead, in milliseconds.
        ahead_ms: i64,
    },
    /// The server's public URL leads nowhere from there.
    ServerUrl {
        /// The URL.
        url: String,
        /// The machine's address.
        address: String,
    },
    /// The agent's port is taken.
    Port(u16),
    /// An agent of another installation is there.
    OtherInstallation {
        /// Where.
        root: String,
        /// Whose.
        installation: String,
    },
    /// The agent of another host of this one is there.
    OtherHost {
        /// Where.
        root: String,
        /// The host.
        host_id: i64,
    },
}

impl fmt::Display for Obstacle {
    /// What is in the way, and what to do about it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture(name) => write!(
                f,
                "the server has no agent for {name}: put an obfleet executable for it into the server's state directory as \
                 agents/obfleet-{name}, or install the agent by hand and enrol it with a token"
            ),
            Self::Programs(names) => write!(f, "{} is missing: install it", names.join(", ")),
            Self::Directory { root, user } => write!(
                f,
                "{user} cannot write to {root}: use root, a user with password-free sudo, or another installPath"
            ),
            Self::Occupied(root) => write!(
                f,
                "{root} holds files that this server did not put there: move them away, or use another installPath"
            ),
            Self::Space { root, free, needed } => write!(
                f,
                "{root} has {} MiB free and {} MiB are needed: make room, or use another installPath",
                free >> 20,
                needed >> 20
            ),
            Self::Clock { ahead_ms } => write!(
                f,
                "its clock is {} ms {} the server's, {MOST_SKEW_MS} ms are the most: set the clock that is wrong",
                ahead_ms.abs(),
                if *ahead_ms > 0 { "ahead of" } else { "behind" }
            ),
            Self::ServerUrl { url, address } => write!(
                f,
                "the agent on {address} could not reach this server at {url}: start the server with a --public-url that leads \
                 there from other machines"
            ),
            Self::Port(port) => write!(
                f,
                "port {port} is in use: free it, or choose another mgragentPort; an agent that was started by hand is stopped \
                 first"
            ),
            Self::OtherInstallation { root, installation } => write!(
                f,
                "the agent in {root} belongs to installation {installation}: take the host away there first"
            ),
            Self::OtherHost { root, host_id } => write!(
                f,
                "the agent in {root} is that of host {host_id}: the machine is known already, by another address"
            ),
        }
    }
}

/// Everything in the way of putting a host's agent on a machine. `known` are the hosts there are.
pub fn obstacles(seen: &Inspection, access: &Access, known: &BTreeSet<i64>) -> Vec<Obstacle> {
    let root = || seen.root.clone();
    let (installation, host_id) = (&access.installation, access.host_id);
    let mut found = Vec::new();
    match &seen.mark {
        Some(mark) if mark.installation != *installation => found.push(Obstacle::OtherInstallation {
            root: root(),
            installation: mark.installation.clone(),
        }),
        Some(mark) if mark.host_id != host_id && known.contains(&mark.host_id) => found.push(Obstacle::OtherHost {
            root: root(),
            host_id: mark.host_id,
        }),
        None if seen.occupied => found.push(Obstacle::Occupied(root())),
        _ => {}
    }
    let needed = seen.executable.map(|bytes| bytes + ROOM);
    match needed {
        None => found.push(Obstacle::Architecture(seen.facts.architecture.clone())),
        Some(needed) if needed > seen.free_bytes => found.push(Obstacle::Space {
            root: root(),
            free: seen.free_bytes,
            needed,
        }),
        Some(_) => {}
    }
    if !seen.missing.is_empty() {
        found.push(Obstacle::Programs(seen.missing.clone()));
    }
    if !seen.writable {
        found.push(Obstacle::Directory {
            root: root(),
            user: seen.user.clone(),
        });
    }
    if seen.ahead_ms.abs() > MOST_SKEW_MS + seen.exact_to_ms {
        found.push(Obstacle::Clock {
            ahead_ms: seen.ahead_ms,
        });
    }
    // One that is to go, or that this host's earlier attempt began, may have it.
    let is_ours = |mark: &Mark| mark.installation == *installation;
    if seen.port_taken && !seen.mark.as_ref().is_some_and(is_ours) {
        found.push(Obstacle::Port(access.settings.agent_port));
    }
    if is_loopback(host_of(&seen.server_url)) && !is_loopback(&access.address) {
        found.push(Obstacle::ServerUrl {
            url: seen.server_url.clone(),
            address: access.address.clone(),
        });
    }
    found
}

/// `[::1]` of `http://[::1]:8080`, without the brackets.
fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host whose agent was left on the machine: of this installation, but of a host that is gone.
pub fn left_behind(seen: &Inspection, access: &Access, known: &BTreeSet<i64>) -> Option<i64> {
    let mark = seen
        .mark
        .as_ref()
        .filter(|mark| mark.installation == access.installation)?;
    (mark.host_id != access.host_id && !known.contains(&mark.host_id)).then_some(mark.host_id)
}

#[cfg(test)]
mod tests {
    use obfleet_wire::agent::HostFacts;

    use super::*;
    use crate::bootstrap::{BootstrapSettings, LoginSecret};

    fn fine() -> Inspection {
        Inspection {
            facts: HostFacts {
                host_uid: String::new(),
                name: "h".into(),
                architecture: "x86_64".into(),
                kernel: "6.1".into(),
                release: "el8".into(),
            },
            host_key: "SHA256:x".into(),
            user: "root".into(),
            root: "/opt/obfleet".into(),
            systemd: true,
            ahead_ms: 29_000,
            exact_to_ms: 500,
            missing: Vec::new(),
            free_bytes: ROOM + 10,
            writable: true,
            occupied: false,
            mark: None,
            port_taken: false,
            server_url: "http://10.0.0.1:8080".into(),
            executable: Some(10),
        }
    }

    fn access() -> Access {
        Access {
            host_id: 7,
            installation: "i1".into(),
            address: "10.0.0.9".into(),
            ssh_port: 22,
            user: "root".into(),
            secret: LoginSecret::Password(String::new()),
            settings: BootstrapSettings {
                credential_id: 1,
                user_id: 1,
                root: None,
                agent_port: 2889,
                bind: "0.0.0.0".into(),
                host_key: None,
            },
        }
    }

    fn mark(installation: &str, host_id: i64) -> Option<Mark> {
        Some(Mark {
            installation: installation.into(),
            host_id,
        })
    }

    fn judged(change: impl FnOnce(&mut Inspection)) -> Vec<Obstacle> {
        let mut seen = fine();
        change(&mut seen);
        obstacles(&seen, &access(), &BTreeSet::from([7, 8]))
    }

    #[test]
    fn each_obstacle_is_found_and_says_what_to_do() {
        assert_eq!(judged(|_| {}), []);
        let cases: [(&str, Vec<Obstacle>); 11] = [
            (
                "--public-url",
                judged(|seen| seen.server_url = "http://127.0.0.1:8080".into()),
            ),
            (
                "agents/obfleet-aarch64",
                judged(|seen| {
                    seen.facts.architecture = "aarch64".into();
                    seen.executable = None;
                }),
            ),
            ("setsid", judged(|seen| seen.missing = vec!["setsid".into()])),
            ("installPath", judged(|seen| seen.writable = false)),
            ("move them away", judged(|seen| seen.occupied = true)),
            ("512 MiB are needed", judged(|seen| seen.free_bytes = 100 << 20)),
            ("31000 ms behind", judged(|seen| seen.ahead_ms = -31_000)),
            ("40000 ms ahead of", judged(|seen| seen.ahead_ms = 40_000)),
            ("2889", judged(|seen| seen.port_taken = true)),
            ("installation i2", judged(|seen| seen.mark = mark("i2", 7))),
            ("host 8", judged(|seen| seen.mark = mark("i1", 8))),
        ];
        for (said, found) in cases {
            let [obstacle] = found.as_slice() else {
                panic!("{said}: {found:?}")
            };
            assert!(obstacle.to_string().contains(said), "{said}: {obstacle}");
        }
        let all = judged(|seen| {
            seen.writable = false;
            seen.port_taken = true;
            seen.free_bytes = 0;
        });
        assert_eq!(all.len(), 3, "{all:?}");
    }

    #[test]
    fn a_server_on_loopback_is_found_by_its_url() {
        for (url, is) in [
            ("http://127.0.0.1:8080", true),
            ("https://localhost/x", true),
            ("http://[::1]:8080", true),
            ("http://10.0.0.1:8080", false),
            ("http://fleet.example", false),
        ] {
            assert_eq!(is_loopback(host_of(url)), is, "{url}");
        }
    }

    #[test]
    fn what_an_earlier_attempt_or_a_host_that_is_gone_left_is_in_nobodys_way() {
        for host in [7, 9] {
            let seen = |seen: &mut Inspection| {
                seen.mark = mark("i1", host);
                seen.port_taken = true;
                seen.occupied = true;
            };
            assert_eq!(judged(seen), []);
        }
        let mut seen = fine();
        let known = BTreeSet::from([7, 8]);
        for (mark, left) in [
            (None, None),
            (mark("i1", 7), None),
            (mark("i1", 9), Some(9)),
            (mark("i2", 9), None),
        ] {
            seen.mark = mark;
            assert_eq!(left_behind(&seen, &access(), &known), left);
        }
    }
}
