//! Units of systemd that ran a proxy before this agent did: as long as a drop-in of ours lies beside one, systemd neither
//! starts the proxy nor ends it nor counts its death. The unit itself is left as it is, enabled and running, so that taking
//! the drop-in away is all it takes to give it back.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::unistd::geteuid;
use obfleet_obproxy::discovery::Unit;
use obfleet_wire::agent::HOLDING_DROP_IN;

use crate::durable::{self, FileError};

const SYSTEMCTL: &str = "systemctl";
/// Where what the machine's administrator says about units goes before what packages say.
const UNITS: &str = "/etc/systemd/system";
/// systemd reads all its units anew, and the machine may have many.
const DEADLINE: Duration = Duration::from_secs(60);

/// A unit could not be held, or given back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// Its drop-in.
    #[error(transparent)]
    File(#[from] FileError),
    /// systemd, or who asks it.
    #[error("systemctl daemon-reload: {0}")]
    Reload(io::Error),
    /// systemd does not answer.
    #[error("systemd does not tell of {0}")]
    Unknown(String),
    /// The unit is as it was.
    #[error("{unit} goes by another setting than {}: look for it with systemctl cat {unit}", drop_in.display())]
    NotHeld {
        /// The unit.
        unit: String,
        /// What ought to have held it.
        drop_in: PathBuf,
    },
}

/// Whether this process may.
pub(crate) fn may_hold() -> bool {
    geteuid().is_root()
}

/// Keeps systemd from its proxy. Held already, it is held.
pub(crate) async fn hold(unit: &str) -> Result<(), UnitError> {
    let drop_in = drop_in(unit);
    if let Some(dir) = drop_in.parent() {
        fs::create_dir_all(dir).map_err(FileError::io("make directory", dir))?;
    }
    durable::write(&drop_in, text(&drop_in).as_bytes())?;
    // For whoever asks systemctl cat.
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&drop_in, readable).map_err(FileError::io("open to all", &drop_in))?;
    reload().await?;
    let told = Unit::ask(unit)
        .await
        .ok_or_else(|| UnitError::Unknown(unit.to_owned()))?;
    if told.is_held() {
        return Ok(());
    }
    let unit = unit.to_owned();
    Err(UnitError::NotHeld { unit, drop_in })
}

/// Gives it back to systemd. → whether it runs, which one whose process has ended since does not
pub(crate) async fn give_back(unit: &str) -> Result<bool, UnitError> {
    let drop_in = drop_in(unit);
    durable::remove(&drop_in)?;
    if let Some(dir) = drop_in.parent() {
        // Others' drop-ins keep it.
        let _ = fs::remove_dir(dir);
    }
    reload().await?;
    Ok(Unit::ask(unit).await.is_some_and(|told| told.is_active()))
}

fn drop_in(unit: &str) -> PathBuf {
    Path::new(UNITS).join(format!("{unit}.d")).join(HOLDING_DROP_IN)
}

/// What ends a proxy is taken from the unit, and what starts one is tied to the absence of this file.
fn text(drop_in: &Path) -> String {
    format!(
        "# An obfleet agent looks after this proxy. While this file is here, systemd neither starts nor stops it.\n\
         # To give it back by hand: remove this file, and run systemctl daemon-reload.\n\
         [Unit]\n\
         ConditionPathExists=!{}\n\
         \n\
         [Service]\n\
         Restart=no\n\
         KillMode=none\n\
         ExecStop=\n\
         ExecStopPost=\n\
         ExecReload=\n",
        // As in all settings of units.
        drop_in.display().to_string().replace('%', "%%")
    )
}

async fn reload() -> Result<(), UnitError> {
    let mut command = tokio::process::Command::new(SYSTEMCTL);
    command.arg("daemon-reload").kill_on_drop(true);
    command.stdin(Stdio::null());
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .map_err(|_| UnitError::Reload(io::ErrorKind::TimedOut.into()))?
        .map_err(UnitError::Reload)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(UnitError::Reload(io::Error::other(said)))
}
