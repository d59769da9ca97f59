//! The host agent.

mod api;
pub mod client;
mod durable;
mod enrol;
mod host;
mod identity;
mod journal;
mod layout;
mod locks;
mod packages;
mod runner;
mod status;
mod tls;
pub mod token;

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
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
