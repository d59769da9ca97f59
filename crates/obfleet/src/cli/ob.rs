//! The commands about OceanBase clusters, and proxy clusters' links to them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::fleet::Follow;

#[derive(Subcommand)]
pub enum LinkOrder {
    /// List the OceanBase clusters that a proxy cluster serves
    List {
        /// The proxy cluster's name or id
        cluster: String,
    },
    /// Have a proxy cluster serve an OceanBase cluster; each proxy says itself when it does
    Add {
        /// The proxy cluster's name or id
        cluster: String,
        /// The OceanBase cluster's name
        ob_cluster: String,
        /// Its cluster_id parameter, where several have that name
        #[arg(long, value_name = "ID")]
        ob_cluster_id: Option<i64>,
        #[command(flatten)]
        servers: RootServers,
        #[command(flatten)]
        follow: Follow,
    },
    /// Have a proxy cluster serve an OceanBase cluster no longer
    Remove {
        /// The proxy cluster's name or id
        cluster: String,
        /// The OceanBase cluster's name
        ob_cluster: String,
        #[command(flatten)]
        follow: Follow,
    },
}

#[derive(Args)]
pub struct RootServers {
    /// A root server, ip:sqlport or ip:rpcport:sqlport; may be given several times
    #[arg(long, value_name = "IP:PORT")]
    pub root_server: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Primary,
    Standby,
}

#[derive(Args)]
pub struct Known {
    /// Its cluster_id parameter
    #[arg(long, value_name = "ID")]
    pub ob_cluster_id: Option<i64>,
    /// What it is among those of its name
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<Kind>,
    /// Holds the password of proxyro there
    #[arg(long, value_name = "FILE")]
    pub proxyro_password: Option<PathBuf>,
    /// The user that a probe logs in as, root@sys
    #[arg(long, value_name = "NAME", requires = "account_password")]
    pub account: Option<String>,
    /// Holds the password of --account
    #[arg(long, value_name = "FILE", requires = "account")]
    pub account_password: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum ObClusterOrder {
    /// List the OceanBase clusters that are registered
    List,
    /// Show one, its root servers, and who serves it
    Show {
        /// Its name or id
        cluster: String,
    },
    /// Register one
    Add {
        /// Its name, which clients put behind #
        name: String,
        #[command(flatten)]
        servers: RootServers,
        #[command(flatten)]
        known: Known,
    },
    /// Change one; what is not given stays. Root servers, if given, are all of them, and are brought to the proxies
    Change {
        /// Its name or id
        cluster: String,
        #[command(flatten)]
        servers: RootServers,
        #[command(flatten)]
        known: Known,
        #[command(flatten)]
        follow: Follow,
    },
    /// Look whether its root servers answer, by SQL
    Probe {
        /// Its name or id
        cluster: String,
        /// Take over the root servers that it names itself
        #[arg(long)]
        refresh: bool,
    },
    /// Delete one that nobody serves
    Delete {
        /// Its name or id
        cluster: String,
    },
}
