//! The commands about hosts, and about the credentials they are added with.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

use super::fleet::Follow;

#[derive(Subcommand)]
pub enum HostOrder {
    /// List the hosts
    List,
    /// Put agents on machines over SSH, and take them up as hosts: one task for each
    Add(NewHosts),
    /// Delete hosts without proxies, all of them or none
    Delete {
        /// Their ids, with commas between them
        #[arg(required = true, value_delimiter = ',', value_name = "ID,ID…")]
        ids: Vec<i64>,
    },
}

#[derive(Args)]
pub struct NewHosts {
    /// Their addresses, with commas between them
    #[arg(required = true, value_delimiter = ',', value_name = "IP,IP…")]
    pub addresses: Vec<IpAddr>,
    /// How to log in: a credential's name or id; `obfleet credential add` keeps one
    #[arg(long, value_name = "NAME")]
    pub credential: String,
    /// Port of their SSH servers
    #[arg(long, value_name = "PORT", default_value_t = 22)]
    pub ssh_port: u16,
    /// The host key of the machine, as ssh-keygen -l tells it; without it the key is believed that the machine shows first
    #[arg(long, value_name = "SHA256:…")]
    pub host_key: Option<String>,
    /// The directory of agent and proxies; /opt/obfleet, or obfleet in the home directory of who is not root
    #[arg(long, value_name = "DIR")]
    pub install_path: Option<String>,
    /// The agents' port
    #[arg(long, value_name = "PORT", default_value_t = 2889)]
    pub agent_port: u16,
    /// The address that proxies listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind: IpAddr,
    /// Id of the IDC they are in
    #[arg(long, value_name = "ID", default_value_t = 1)]
    pub idc: i64,
    /// Id of their host type
    #[arg(long, value_name = "ID", default_value_t = 1)]
    pub host_type: i64,
    /// Another name, for a single one
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,
    #[command(flatten)]
    pub follow: Follow,
}

#[derive(Subcommand)]
pub enum CredentialOrder {
    /// List the own credentials; secrets are not shown
    List,
    /// Keep a login for hosts, sealed on the server
    Add {
        /// What to call it
        name: String,
        /// The user of the hosts: root, or one who may use sudo without a password
        #[arg(long, value_name = "NAME", default_value = "root")]
        ssh_user: String,
        #[command(flatten)]
        secret: LoginSecret,
        /// Holds what the key is encrypted with
        #[arg(long, value_name = "FILE", requires = "key")]
        passphrase: Option<PathBuf>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Forget a credential
    Delete {
        /// Its name or id
        name: String,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct LoginSecret {
    /// Holds the password of the user of the hosts; - for the standard input
    #[arg(long, value_name = "FILE")]
    pub login_password: Option<PathBuf>,
    /// Holds the private key that lets that user in
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}
