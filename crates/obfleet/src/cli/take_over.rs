//! The commands about proxies that somebody else installed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::fleet::Follow;

#[derive(Subcommand)]
pub enum TakeOverOrder {
    /// List the proxies that run on a host, whoever started them
    Find {
        /// The host's id; `obfleet host list` tells it
        host: i64,
    },
    /// Tell what taking them over would find and change
    Check {
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Make them a cluster's, without a restart
    Start {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        follow: Follow,
    },
}

/// Proxies to take over.
#[derive(Args)]
pub struct Wanted {
    /// The cluster's name or id
    pub cluster: String,
    /// Each with the id of its host and its SQL port
    #[arg(required = true, value_name = "HOST:PORT", value_parser = Place::parse)]
    pub proxies: Vec<Place>,
    /// Holds their password of root@proxysys, if it is neither the cluster's nor empty
    #[arg(long, value_name = "FILE")]
    pub sys_password: Option<PathBuf>,
}

/// Where a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub host: i64,
    pub port: u16,
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        let read = || {
            let (host, port) = text.split_once(':')?;
            Some(Self {
                host: host.parse().ok()?,
                port: port.parse().ok()?,
            })
        };
        read().ok_or_else(|| "write it as the host's id and the proxy's SQL port, 3:2883".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        assert_eq!(Place::parse("3:2883"), Ok(Place { host: 3, port: 2883 }));
        for wrong in ["3", "a:2883", "3:", "3:70000", "10.0.0.1:2883"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }
}
