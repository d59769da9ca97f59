//! The directory a proxy lives in: `$OBPROXY_ROOT`, else the working directory.

use std::io;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Directories every start makes where they are missing.
const DIRECTORIES: [&str; 5] = ["etc", "log", ".conf", "control-config", "sharding-config"];
/// Length of the buffer the real proxy writes `OBPROXY_ROOT=<path>` into for its child, less name, `=` and end mark.
const LONGEST_INHERITABLE_ROOT: usize = 114;

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
    given_by_environment: Option<String>,
}

impl Home {
    /// Finds the home of this process.
    pub fn locate() -> io::Result<Self> {
        match env::var("OBPROXY_ROOT") {
            Ok(root) if Path::new(&root).is_absolute() => Ok(Self {
                root: PathBuf::from(&root),
                given_by_environment: Some(root),
            }),
            _ => Ok(Self {
                root: env::current_dir()?,
                given_by_environment: None,
            }),
        }
    }

    /// Makes the missing directories.
    pub fn lay_out(&self) -> io::Result<()> {
        DIRECTORIES
            .iter()
            .try_for_each(|name| fs::create_dir_all(self.root.join(name)))
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration store.
    pub fn config_store(&self) -> PathBuf {
        self.root.join("etc/proxyconfig_v1.db")
    }

    /// The configuration in the form older versions read.
    pub fn legacy_config(&self) -> PathBuf {
        self.root.join("etc/obproxy_config.bin")
    }

    /// The main log.
    pub fn main_log(&self) -> PathBuf {
        self.root.join("log/obproxy.log")
    }

    /// The log with one line per start.
    pub fn diagnosis_log(&self) -> PathBuf {
        self.root.join("log/obproxy_diagnosis.log")
    }

    /// What the child of a hot restart gets as `OBPROXY_ROOT`; an error if the path is too long to be handed on.
    pub fn inheritable_root(&self) -> io::Result<Option<&str>> {
        match &self.given_by_environment {
            Some(root) if root.len() > LONGEST_INHERITABLE_ROOT => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "OBPROXY_ROOT is too long to be inherited",
            )),
            root => Ok(root.as_deref()),
        }
    }
}
