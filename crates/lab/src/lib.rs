//! A whole fleet on loopback: real server, agent and guard processes, stand-in proxies, a database and its clients.
//!
//! ```text
//! demo ── stage                a fleet with running proxies
//!   ├── fleet ── process      the server and three agents, as processes of the executable
//!   │       ├───── api          how they are asked
//!   │       └───── reaper       ends them when the demo was killed
//!   ├── packages                two versions of the stand-in as RPMs
//!   ├── backend                 what the proxies serve
//!   ├── traffic ── clients      live clients; traffic counts what they see
//!   │       ├── ledger          which transactions were committed, and whether the database has them
//!   │       └── peer            which executable serves a connection
//!   ├── reply_time              how fast upgrades are accepted, on a copy of the state
//!   └── report                  what it all came to
//!
//! machine                       a machine without an agent, reached over SSH
//! testbed                       the same kind of fleet, for tests
//! chaos                         upgrades of it during which somebody is killed
//! fire                          every other operation likewise, on a fleet made for each
//! tally                         many points of the two, for as long as there is time
//! ```

pub mod api;
pub mod backend;
pub mod chaos;
mod clients;
pub mod demo;
pub mod fire;
pub mod fleet;
pub mod ledger;
pub mod machine;
pub mod packages;
mod peer;
pub mod process;
pub mod reaper;
mod reply_time;
pub mod report;
pub mod tally;
pub mod testbed;
pub mod traffic;
