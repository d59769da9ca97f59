//! The commands about proxies' parameters.

use clap::{Args, Subcommand};

use super::fleet::Follow;

#[derive(Subcommand)]
pub enum ParameterOrder {
    /// List the parameters of a cluster's proxies, and which of them differ
    List {
        /// The cluster's name or id
        cluster: String,
        /// Only these parameters
        names: Vec<String>,
    },
    /// Explain a parameter: its type, the values it takes, its default
    Explain {
        /// Its name
        name: String,
        /// Of proxies of this version, 4.3.1.0, if not of the newest that is known
        #[arg(long, value_name = "VERSION")]
        of: Option<String>,
    },
    /// Give all proxies of a cluster other values, or, if one of them refuses, none
    Set {
        /// The cluster's name or id
        cluster: String,
        /// Names with their new values
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = Setting::parse)]
        values: Vec<Setting>,
        /// Only these proxies, by their ids with commas between them
        #[arg(long, value_delimiter = ',', value_name = "ID,ID…")]
        proxy: Vec<i64>,
        #[command(flatten)]
        follow: Follow,
    },
    /// List what was changed, the newest first
    History {
        /// The cluster's name or id
        cluster: String,
        /// Only this parameter
        name: Option<String>,
    },
    /// List what somebody changed by SQL
    Drift {
        /// The cluster's name or id
        cluster: String,
    },
    /// Give proxies back the values they should have
    Repair {
        #[command(flatten)]
        drifting: Drifting,
    },
    /// Have the values that proxies have be those they should have
    Accept {
        #[command(flatten)]
        drifting: Drifting,
    },
    /// Give proxies all of their cluster's parameters again
    Refresh {
        #[command(flatten)]
        chosen: super::fleet::Chosen,
    },
}

/// What drifts: all of it, or some.
#[derive(Args)]
pub struct Drifting {
    /// The cluster's name or id
    pub cluster: String,
    /// Only these parameters
    pub names: Vec<String>,
    /// Only of these proxies, by their ids with commas between them
    #[arg(long, value_delimiter = ',', value_name = "ID,ID…")]
    pub proxy: Vec<i64>,
    #[command(flatten)]
    pub follow: Follow,
}

/// A parameter and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

impl Setting {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
        let (name, value) = (name.trim().to_owned(), value.to_owned());
        match name.is_empty() {
            true => Err("write it as NAME=VALUE".to_owned()),
            false => Ok(Self { name, value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_anything() {
        let read = |text: &str| Setting::parse(text).map(|setting| (setting.name, setting.value));
        assert_eq!(read("a=b=c "), Ok(("a".to_owned(), "b=c ".to_owned())));
        assert_eq!(read("a="), Ok(("a".to_owned(), String::new())));
        assert!(read("a").is_err() && read("=b").is_err());
    }
}
