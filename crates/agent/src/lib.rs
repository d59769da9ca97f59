//! The host agent: owns the proxies' files and processes on one host, and does what the server asks, once.
//!
//! The way of a request: [`api`] lets in only the server ([`tls`]) → [`runner`] tests the fence, writes the
//! [`journal`], and performs each key once → [`operations`] look first and do what is left → `obfleet_obproxy` for one
//! proxy's process, `obfleet_package` for slots, `obfleet_guard` for a restart. Beside it, [`supervisor`] keeps the
//! [`proxies`] running, [`status`] knows how they are and [`readings`] what they are configured with, [`metrics`] measures
//! them, [`janitor`] tidies up.
//!
//! The server's side is here too: [`client`] calls agents, [`token`] is what both know of an enrolment.

mod api;
mod certificate;
pub mod client;
mod discovery;
mod durable;
mod each_proxy;
mod enrol;
mod examination;
mod host;
mod identity;
mod janitor;
mod journal;
mod layout;
mod locks;
mod metrics;
mod operations;
mod origin;
mod packages;
mod proxies;
mod proxy_logs;
mod reach;
mod readings;
mod run;
mod runner;
mod slots;
mod status;
mod supervisor;
mod tls;
pub mod token;
mod units;

pub use durable::FileError;
pub use enrol::EnrolError;
pub use identity::IdentityError;
pub use run::{MEASURE_EVERY, Options, RunError, run};
pub use tls::{PkiError, unauthenticated_config};

/// An error with its causes, in one line; what a message says already is not said again.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}
