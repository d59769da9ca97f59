//! JSON contracts: the OCP API as clients see it ([`task`], [`obproxy`], [`ob`], [`parameter`], [`host`], [`site`], [`credential`],
//! [`package`], [`iam`], [`envelope`]), what proxies ask their config server for ([`config_server`]), and the API between
//! server and host agent ([`agent`]). [`metric`] names what is measured, [`event`] is what befalls a fleet, [`audit`] what
//! people changed.
//!
//! This crate does no I/O and makes no decisions. Member names, types and spellings follow OCP's documentation; where a
//! member is ours, its doc comment says *extension*.

pub mod agent;
pub mod audit;
pub mod config_server;
pub mod credential;
pub mod envelope;
pub mod event;
pub mod host;
pub mod iam;
pub mod id;
pub mod metric;
pub mod ob;
pub mod obproxy;
pub mod package;
pub mod parameter;
pub mod reason;
pub mod refusal;
pub mod site;
pub mod task;
pub mod time;
pub mod version;

pub use refusal::{Code, Refusal};
