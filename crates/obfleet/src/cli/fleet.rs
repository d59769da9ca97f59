//! The commands about clusters, proxies, packages and tasks.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum ClusterOrder {
    /// List the proxy clusters
    List,
    /// Show one cluster and its proxies
    Show {
        /// Its name or id
        cluster: String,
    },
    /// Delete a cluster with all its proxies
    Delete {
        /// Its name or id
        cluster: String,
        #[command(flatten)]
        follow: Follow,
    },
}

/// Proxies of a cluster.
#[derive(Args)]
pub struct Chosen {
    /// The cluster's name or id
    pub cluster: String,
    /// Ids of the proxies, with commas between them; `obfleet cluster show` tells them
    #[arg(required = true, value_delimiter = ',', value_name = "ID,ID…")]
    pub ids: Vec<i64>,
    #[command(flatten)]
    pub follow: Follow,
}

#[derive(Args)]
pub struct Follow {
    /// Show each step as it goes, until the task is over; fails unless it succeeds
    #[arg(long)]
    pub watch: bool,
}

#[derive(Subcommand)]
pub enum ProxyOrder {
    /// Upgrade running proxies one after another, without breaking a connection
    Upgrade {
        #[command(flatten)]
        chosen: Chosen,
        /// The package's short name, obproxy-ce-4.3.1.0-1; the newest that fits unless given
        #[arg(long, value_name = "NAME")]
        package: Option<String>,
    },
    /// Restart proxies one after another, hot where that can be
    Restart {
        #[command(flatten)]
        chosen: Chosen,
        /// All at once, which cuts what goes through them
        #[arg(long)]
        forced: bool,
    },
    /// Drain and stop proxies, until they are started
    Stop {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Start proxies that are down
    Start {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Have load balancers keep away
    Offline {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Have load balancers come again
    Online {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Drain, stop and delete proxies
    Delete {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Give proxies back: they go on as they are, and the fleet forgets them
    MoveOut {
        #[command(flatten)]
        chosen: Chosen,
        /// Holds the password that root@proxysys is to have, if not the cluster's
        #[arg(long, value_name = "FILE")]
        sys_password: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub enum PackageOrder {
    /// List the packages
    List,
    /// Upload packages
    Upload {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Delete a package that nothing uses
    Delete {
        /// Its id
        id: i64,
    },
}

/// A task that something is decided about.
#[derive(Args)]
pub struct Decided {
    /// The task's id
    pub id: i64,
    #[command(flatten)]
    pub follow: Follow,
}

#[derive(Subcommand)]
pub enum TaskOrder {
    /// List tasks, the newest first
    List {
        /// RUNNING, FAILED or SUCCESSFUL
        #[arg(long)]
        status: Option<String>,
    },
    /// Show one task and its steps
    Show {
        /// Its id
        id: i64,
    },
    /// Show each step as it goes, until the task is over; fails unless it succeeds
    Watch {
        /// Its id
        id: i64,
    },
    /// Show the log of a step
    Log {
        /// The task's id
        id: i64,
        /// The step's id
        step: i64,
    },
    /// Run a failed task again, from where it failed
    Retry(Decided),
    /// Undo what a failed task has done
    Rollback(Decided),
    /// End a running task; what has begun is ended first
    Cancel(Decided),
    /// Begin no further step
    Pause(Decided),
    /// Go on with a paused task
    Resume(Decided),
    /// Give a failed task up and let go of what it holds
    Abandon {
        /// Its id
        id: i64,
        /// Why; kept in its history
        #[arg(long)]
        reason: String,
    },
}

/// A request as it is.
#[derive(Args)]
pub struct Request {
    /// GET, POST, PUT, PATCH or DELETE
    pub method: String,
    /// The path with its query, /api/v2/obproxy/clusters?size=5
    pub path: String,
    /// Holds the JSON body; - for the standard input
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
}
