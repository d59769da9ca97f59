//! The commands that ask a server.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    fleet::{ClusterOrder, PackageOrder, ProxyOrder, Request, TaskOrder},
    hosts::{CredentialOrder, HostOrder},
    ob::{LinkOrder, ObClusterOrder},
    parameters::ParameterOrder,
    take_over::TakeOverOrder,
};

/// Which server is asked, as whom, and how the answer is shown.
#[derive(Args)]
pub struct Asked {
    /// The context to use, if not the current one
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "OBFLEET_CONTEXT",
        hide_env_values = true
    )]
    pub context: Option<String>,
    /// The server, in the place of a context: as --user, or with the access key in OBFLEET_ACCESS_KEY and OBFLEET_SECRET_KEY
    #[arg(
        long,
        global = true,
        value_name = "http://HOST:PORT",
        env = "OBFLEET_URL",
        hide_env_values = true
    )]
    pub url: Option<String>,
    /// Holds the authority that the server's certificate is from, if the system does not know it; a context keeps it
    #[arg(long, global = true, value_name = "FILE", env = "OBFLEET_CA", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// Log in as this user; the password is in --password-file or OBFLEET_PASSWORD
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "OBFLEET_USER",
        hide_env_values = true
    )]
    pub user: Option<String>,
    /// Holds the password of --user
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// How answers are shown
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// As the server answers it
    Json,
    /// The same as YAML
    Yaml,
}

#[derive(Subcommand)]
pub enum ClientCommand {
    /// Keep where servers are, and the access keys to ask them with
    Context {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: ContextOrder,
    },
    /// Tell who asks, and what that user may do
    Whoami {
        #[command(flatten)]
        asked: Asked,
    },
    /// Change the own password
    Passwd {
        #[command(flatten)]
        asked: Asked,
        /// Holds the present password
        #[arg(long, value_name = "FILE")]
        current: PathBuf,
        /// Holds the new one
        #[arg(long, value_name = "FILE")]
        new: PathBuf,
    },
    /// Look after proxy clusters
    Cluster {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: ClusterOrder,
    },
    /// Upgrade, restart, stop and start proxies of a cluster
    Proxy {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: ProxyOrder,
    },
    /// Look after hosts
    Host {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: HostOrder,
    },
    /// Look after the own credentials, with which hosts are added
    Credential {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: CredentialOrder,
    },
    /// Look after packages
    Package {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: PackageOrder,
    },
    /// Look after the parameters of a cluster's proxies
    Parameter {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: ParameterOrder,
    },
    /// Look after the OceanBase clusters that a proxy cluster serves
    Link {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: LinkOrder,
    },
    /// Look after the OceanBase clusters that are registered
    ObCluster {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: ObClusterOrder,
    },
    /// Take over proxies that somebody else installed
    TakeOver {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: TakeOverOrder,
    },
    /// Look at tasks, and decide what becomes of those that failed
    Task {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: TaskOrder,
    },
    /// Send any request of the API, and show the `data` of its answer
    Api {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        request: Request,
    },
    /// Look after users
    User {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: UserOrder,
    },
    /// Look after roles
    Role {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: RoleOrder,
    },
    /// Look after the own access keys
    AccessKey {
        #[command(flatten)]
        asked: Asked,
        #[command(subcommand)]
        order: KeyOrder,
    },
}

#[derive(Subcommand)]
pub enum ContextOrder {
    /// Log in to the server of --url, make an access key, and keep both; the new context is the current one
    Add {
        /// What to call it
        name: String,
    },
    /// List the contexts; secrets are not shown
    List,
    /// Make another one the current one
    Use {
        /// Its name
        name: String,
    },
    /// Delete the access key on the server, and forget the context
    Remove {
        /// Its name
        name: String,
        /// Forget it also when the server cannot be asked; the key is still good there
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub enum UserOrder {
    /// List users
    List,
    /// Show one user
    Show {
        /// Its name
        name: String,
    },
    /// Add a user; without --first-password a password is made and shown once
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        grants: Grants,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
        /// Holds the first password
        #[arg(long, value_name = "FILE")]
        first_password: Option<PathBuf>,
        /// Do not make the user choose another password
        #[arg(long)]
        keep_password: bool,
    },
    /// Change a user; what is not given stays
    Change {
        /// Its name
        name: String,
        #[command(flatten)]
        grants: Grants,
        /// Take all roles away
        #[arg(long, conflicts_with = "role")]
        no_roles: bool,
        /// For people
        #[arg(long)]
        description: Option<String>,
        /// Let the user in
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Let the user in no longer
        #[arg(long)]
        disable: bool,
    },
    /// Delete a user, with access keys and sessions
    Delete {
        /// Its name
        name: String,
    },
    /// Give a user another password, and unlock it; without --new-password one is made and shown once
    ResetPassword {
        /// Its name
        name: String,
        /// Holds the new password
        #[arg(long, value_name = "FILE")]
        new_password: Option<PathBuf>,
        /// Do not make the user choose another password
        #[arg(long)]
        keep_password: bool,
    },
    /// Forget a user's failed logins
    Unlock {
        /// Its name
        name: String,
    },
}

/// Roles of a user's.
#[derive(Args)]
pub struct Grants {
    /// A role, for everything or for proxy clusters by their ids; may be given several times
    #[arg(long, value_name = "ROLE[=ID,ID…]")]
    pub role: Vec<String>,
}

#[derive(Subcommand)]
pub enum RoleOrder {
    /// List roles with their rights
    List,
    /// Add a role
    Add {
        /// Its name
        name: String,
        /// A right; `obfleet role list` shows all of them at ADMIN
        #[arg(long, value_name = "RIGHT", required = true)]
        right: Vec<String>,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Change a role; what is not given stays
    Change {
        /// Its name
        name: String,
        /// A right; all of them take the place of those there are
        #[arg(long, value_name = "RIGHT")]
        right: Vec<String>,
        /// For people
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete a role that no user has
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Subcommand)]
pub enum KeyOrder {
    /// List the keys
    List,
    /// Make one; its secret is shown once
    Create {
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Let a key in again
    Enable {
        /// Its name
        access_key: String,
    },
    /// Let a key in no longer
    Disable {
        /// Its name
        access_key: String,
    },
    /// Make a key to take this one's place, which stays good until it is disabled or deleted
    Rotate {
        /// Its name
        access_key: String,
    },
    /// Delete a key
    Delete {
        /// Its name
        access_key: String,
    },
}
