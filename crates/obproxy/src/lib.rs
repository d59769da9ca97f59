//! One proxy, and no policy: how to talk to it, find it, start it, drain it, stop it, and judge whether it can be
//! restarted onto another binary. Which configuration items there are is told by [`config_items`].
//!
//! | module | answers |
//! |---|---|
//! | [`admin`] | what the proxy says of itself, by SQL as `root@proxysys` |
//! | [`discovery`] | which proxies run on this host, whoever started them |
//! | [`process`] | what `/proc` says of it |
//! | [`exposition`] | what its exporter says of it, to Prometheus |
//! | [`binary`] | what an executable is before it runs |
//! | [`config_store`] | how its stored configuration is kept and put back |
//! | [`launch`], [`drain`], [`stop`] | how it starts, empties and ends |
//! | [`probe`] | whether a client gets through |
//! | [`run_as`] | as which user it runs |
//! | [`preflight`] | what stands in the way of a restart |

pub mod admin;
pub mod binary;
pub mod config_store;
pub mod discovery;
pub mod drain;
pub mod exposition;
pub mod launch;
pub mod preflight;
pub mod probe;
pub mod process;
pub mod run_as;
pub mod stop;

pub use obfleet_config_items as config_items;
