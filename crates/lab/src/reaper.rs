//! The end of a fleet whose owner was killed.
//!
//! A demo takes its processes with it when it ends, but `kill -9` gives it no time for that; and a proxy, an agent or a
//! guard must not care who started it. So a small process of its own waits at the end of a pipe whose other end only the
//! owner holds: when that closes, it ends everything at work below the fleet's directory, and removes the directory.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

use crate::process::end_all_under;

/// The subcommand of the executable that calls [`reap`].
pub const SUBCOMMAND: &str = "reap";

/// Waits for the end of this process. Let go after an orderly end, it finds nothing left to do.
#[derive(Debug)]
pub struct Reaper {
    process: Child,
}

impl Reaper {
    /// For everything below `root`, a directory nobody else works in.
    pub fn start(exe: &Path, root: &Path) -> anyhow::Result<Self> {
        let process = Command::new(exe)
            .arg(SUBCOMMAND)
            .arg(root)
            .current_dir("/")
            // Ctrl-C is for the owner.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the reaper")?;
        Ok(Self { process })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // One that cannot be waited for is no child any more.
        let _ = self.process.wait();
    }
}

/// The reaper's work: waits for the end of standard input, then ends everything.
pub fn reap(root: &Path) -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    end_all_under(root);
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
