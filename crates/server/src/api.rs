//! The routes, one file per resource. A handler reads the request, asks the fleet, and shows what it answered.

pub mod access_keys;
pub mod agents;
pub mod clusters;
pub mod config_server;
pub mod credentials;
pub mod diagnosis;
pub mod events;
pub mod hosts;
pub mod login;
pub mod monitor;
pub mod ob_clusters;
pub mod ob_links;
pub mod obproxies;
pub mod packages;
pub mod parameters;
pub mod passwords;
pub mod peers;
pub mod profile;
pub mod proxy_logs;
pub mod roles;
pub mod servers;
pub mod sites;
pub mod system;
pub mod task_events;
pub mod tasks;
pub mod users;
