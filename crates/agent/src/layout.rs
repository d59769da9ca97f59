//! Where things lie on a host.
//!
//! ```text
//! <root>/packages/<sha256>.rpm                        package files, as the server put them; `.part` while they arrive
//! <root>/slots/obproxy-<version>-<release>/bin/obproxy  extracted packages, never changed
//! <root>/proxies/<cluster>-<proxy id>/                a proxy's home: its working directory for life
//! <root>/restarts/<restart id>/                       the journal of a restart, written by its guard
//! <root>/backups/<proxy id>-before-<version>.db       a proxy's configuration before it went to that version
//! <root>/removed/<proxy id>-<unix seconds>/           homes of removed proxies, kept for a day
//! <state>/identity.json                               host uid, key, certificate
//! <state>/journal/                                    operations and their results
//! <state>/proxies/<proxy id>.{json,secret,next-secret,started,origin}    the proxies this host owns
//! ```
//!
//! Everything below the root lies on one file system, so that a binary can be linked from its slot and a home renamed.

use std::path::PathBuf;

use obfleet_wire::{agent::ProxySpec, version::ProxyVersion};

use crate::durable::{FileError, private_dir};

/// The agent's two directories.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    state: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(root: PathBuf, state: PathBuf) -> Result<Self, FileError> {
        let layout = Self { root, state };
        for dir in [
            layout.packages(),
            layout.slots(),
            layout.root.join("proxies"),
            layout.restarts(),
            layout.backups(),
            layout.removed(),
            layout.journal(),
            layout.registry(),
        ] {
            private_dir(&dir)?;
        }
        Ok(layout)
    }

    /// Package files.
    pub fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    /// Slots.
    pub fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }

    /// The home of a proxy. Characters a file name should not have are replaced: the id alone makes it unique.
    pub fn home(&self, spec: &ProxySpec) -> PathBuf {
        let cluster: String = spec
            .cluster_name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(32)
            .collect();
        self.root.join("proxies").join(format!("{cluster}-{}", spec.proxy_id))
    }

    /// The directories of restarts.
    pub fn restarts(&self) -> PathBuf {
        self.root.join("restarts")
    }

    /// The directory of a restart.
    pub fn restart(&self, restart_id: &str) -> PathBuf {
        self.restarts().join(restart_id)
    }

    /// The copy of a proxy's configuration from before it went to `version`.
    pub fn config_backup(&self, proxy_id: i64, version: &ProxyVersion) -> PathBuf {
        self.backups().join(format!("{proxy_id}-before-{version}.db"))
    }

    fn backups(&self) -> PathBuf {
        self.root.join("backups")
    }

    /// Homes of removed proxies.
    pub fn removed(&self) -> PathBuf {
        self.root.join("removed")
    }

    /// The agent's identity.
    pub fn identity(&self) -> PathBuf {
        self.state.join("identity.json")
    }

    /// Held by the one agent of this state directory.
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// Journal of operations.
    pub fn journal(&self) -> PathBuf {
        self.state.join("journal")
    }

    /// Records of owned proxies.
    pub fn registry(&self) -> PathBuf {
        self.state.join("proxies")
    }
}
