//! What the config server told, on disk: in `etc/`, and once more in `.conf/`.
//!
//! The real proxy puts a binary header before the text; who reads these files is the proxy itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::answers::{self, JsonConfig, RsList};
use crate::home::Home;

const CONFIG: &str = "obproxy_config_server_info.json";
const LISTS: &str = "obproxy_rslist_info.json";

/// The two directories, the first the one that is read first.
#[derive(Debug)]
pub struct Kept([PathBuf; 2]);

impl Kept {
    /// Those of a home.
    pub fn of(home: &Home) -> Self {
        Self([home.root().join("etc"), home.root().join(".conf")])
    }

    /// The configuration that was kept last.
    pub fn config(&self) -> Option<JsonConfig> {
        self.find(CONFIG, |bytes| answers::config(bytes).ok())
    }

    /// The root servers that were kept last.
    pub fn lists(&self) -> BTreeMap<String, RsList> {
        self.find(LISTS, |bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default()
    }

    /// The first file that can be read.
    fn find<T>(&self, name: &str, read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let files = self.0.iter().map(|directory| directory.join(name));
        files
            .filter_map(|file| fs::read(file).ok())
            .find_map(|bytes| read(&bytes))
    }

    /// Keeps a configuration as the server told it.
    pub fn keep_config(&self, answer: &[u8]) -> Result<(), String> {
        self.keep(CONFIG, answer)
    }

    /// Keeps root servers.
    pub fn keep_lists(&self, lists: &BTreeMap<String, RsList>) -> Result<(), String> {
        let bytes = serde_json::to_vec(lists).map_err(|error| error.to_string())?;
        self.keep(LISTS, &bytes)
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let kept = self
            .0
            .iter()
            .try_for_each(|directory| replace(&directory.join(name), bytes));
        kept.map_err(|error| format!("{name} cannot be written: {error}"))
    }
}

/// The file before stays beside it.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = |suffix: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    fs::write(beside(".tmp"), bytes)?;
    match fs::rename(file, beside(".old")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(beside(".tmp"), file)
}
