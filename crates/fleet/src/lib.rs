//! The fleet: what is known of hosts, clusters, proxies and packages ([`inventory`]), what a request will do to them
//! ([`plan`], pure), the tasks that do it ([`flows`]), and the surface the REST API uses ([`Fleet`]); beside it, what is
//! measured of proxies ([`monitor`]).

pub mod bootstrap;
mod fleet;
pub mod flows;
pub mod host_agent;
pub mod inventory;
pub mod monitor;
pub mod observer;
mod once;
pub mod package_files;
pub mod plan;
mod readings;
pub mod secrets;
#[cfg(test)]
mod testing;
mod view;

pub use fleet::{
    Actor, Error, ExporterTarget, Fleet, LoadBalanceServer, PackageOnDisk, ProbeTarget, Started, TakeOverCheck,
};
pub use obfleet_package::{KeysError as PackageKeysError, TrustedKeys as PackageKeys};
pub use once::Once;
