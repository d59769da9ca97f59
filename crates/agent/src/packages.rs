//! Package files as the server put them, named by their SHA-256.
//!
//! One that arrives is written to `<sha256>.part` and gets its name when it is whole and has that digest. What a connection
//! that broke, or a death of the agent, has left of it is gone on from. One sender at a time: whoever has the same file for
//! this host waits, and finds it here.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use obfleet_package::Limits;
use sha2::{Digest as _, Sha256};
use tokio::{fs::OpenOptions, io::AsyncWriteExt as _, time::timeout};

use crate::{
    durable::{self, FileError},
    locks::Locks,
};

/// Between two pieces of a package; a sender that takes longer has gone, and another one may go on.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
/// How long whoever asks for a package waits for the one that sends it.
const LOOK_PATIENCE: Duration = Duration::from_secs(10);
const CHUNK: usize = 256 * 1024;
const PART: &str = "part";

/// A package file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The name of a package file is the digest of its content.
    #[error("'{0}' is not a SHA-256 in lower case hexadecimal")]
    Name(String),
    /// More than any package may have.
    #[error("the package is larger than {} MiB", limit / 1024 / 1024)]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The content is not what its name says. Nothing is kept of it.
    #[error("the package has SHA-256 {found}, announced was {announced}: it was damaged on the way, send it again")]
    Digest {
        /// The name.
        announced: String,
        /// The content's.
        found: String,
        /// Whether part of it was here before: then it may be that part which is wrong.
        resumed: bool,
    },
    /// Somebody else has sent more of it, or its part has been cleared away.
    #[error("{there} bytes of the package are here, and it was sent from byte {from} on: ask again how much is here")]
    Offset {
        /// Where the sender began.
        from: u64,
        /// How much is here.
        there: u64,
    },
    /// The sender went away. What has arrived is kept.
    #[error("the package did not arrive whole")]
    Body(#[source] io::Error),
    /// The disk has no room. What had arrived is removed, as the proxies need the room, too.
    #[error("the disk with {} is full: make room for the package of {size} bytes, then retry", dir.display())]
    NoRoom {
        /// Where packages are.
        dir: PathBuf,
        /// Bytes of it that had to be written, at least.
        size: u64,
    },
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// How much of a package is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All of it.
    Whole,
    /// So many bytes, not compared with any digest yet; or none.
    Part(u64),
    /// It is arriving; ask again.
    Arriving,
}

/// The directory of package files.
#[derive(Clone)]
pub struct Packages {
    dir: PathBuf,
    /// By digest: those that are being written.
    arriving: Arc<Locks<String>>,
}

impl Packages {
    /// Opens the directory.
    pub fn open(dir: PathBuf) -> Self {
        Self {
            dir,
            arriving: Arc::default(),
        }
    }

    /// Where the package of this digest lies, if it is here.
    pub fn find(&self, sha256: &str) -> Option<PathBuf> {
        is_digest(sha256)
            .then(|| self.path(sha256))
            .filter(|path| path.is_file())
    }

    /// How much of the package is here. One that arrives is waited for a while.
    pub async fn look(&self, sha256: &str) -> Presence {
        if self.find(sha256).is_some() {
            return Presence::Whole;
        }
        let turn = timeout(LOOK_PATIENCE, self.arriving.lock(sha256.to_owned())).await;
        match (self.find(sha256), turn) {
            (Some(_), _) => Presence::Whole,
            (None, Ok(_turn)) => Presence::Part(self.arrived(sha256)),
            (None, Err(_)) => Presence::Arriving,
        }
    }

    fn arrived(&self, sha256: &str) -> u64 {
        let part = is_digest(sha256).then(|| fs::metadata(self.part(sha256)).ok());
        part.flatten().map_or(0, |part| part.len())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.rpm"))
    }

    fn part(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.{PART}"))
    }

    /// Stores a package, of which `body` is what follows its first `from` bytes. It has its name only when it is whole and
    /// its digest is the announced one.
    ///
    /// # Errors
    /// When the name is no digest, the content is another one or too large, or it cannot be received or written.
    pub async fn put(
        &self,
        sha256: &str,
        from: u64,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send,
    ) -> Result<(), PutError> {
        if !is_digest(sha256) {
            return Err(PutError::Name(sha256.to_owned()));
        }
        let _turn = self.arriving.lock(sha256.to_owned()).await;
        if self.find(sha256).is_some() {
            return Ok(());
        }
        let there = self.arrived(sha256);
        if from > 0 && from != there {
            return Err(PutError::Offset { from, there });
        }
        let part = self.part(sha256);
        self.receive(&part, from, body).await.inspect_err(|error| {
            if matches!(error, PutError::NoRoom { .. } | PutError::TooLarge { .. }) {
                discard(&part);
            }
        })?;
        let whole = part.clone();
        let found = tokio::task::spawn_blocking(move || digest(&whole)).await;
        let found = found
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(FileError::io("read", &part))?;
        if found != sha256 {
            discard(&part);
            return Err(PutError::Digest {
                announced: sha256.to_owned(),
                found,
                resumed: from > 0,
            });
        }
        let path = self.path(sha256);
        fs::rename(&part, &path).map_err(FileError::io("write", &path))?;
        durable::sync_parent(&path)?;
        Ok(())
    }

    /// Writes the body to the file behind its first `from` bytes, on to the disk.
    async fn receive(
        &self,
        part: &Path,
        from: u64,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send,
    ) -> Result<(), PutError> {
        let limit = Limits::default().package_bytes;
        let mut size = from;
        let failed = |size: u64| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    PutError::NoRoom {
                        dir: self.dir.clone(),
                        size,
                    }
                }
                _ => FileError::io("write", part)(error).into(),
            }
        };
        let mut options = OpenOptions::new();
        let options = match from {
            0 => options.write(true).create(true).truncate(true),
            _ => options.append(true),
        };
        let mut file = options.open(part).await.map_err(failed(size))?;
        let mut body = std::pin::pin!(body);
        loop {
            let chunk = match timeout(BODY_PATIENCE, body.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => break,
                broken => {
                    // Kept as far as it can be: whoever goes on looks how much there is.
                    file.flush().await.map_err(failed(size))?;
                    return Err(PutError::Body(match broken {
                        Ok(Some(Err(error))) => error,
                        _ => io::ErrorKind::TimedOut.into(),
                    }));
                }
            };
            size += chunk.len() as u64;
            if size > limit {
                return Err(PutError::TooLarge { limit });
            }
            file.write_all(&chunk).await.map_err(failed(size))?;
        }
        file.flush().await.map_err(failed(size))?;
        file.sync_all().await.map_err(failed(size))?;
        Ok(())
    }

    /// Removes what was left of packages that nobody has gone on sending for `age`.
    ///
    /// # Errors
    /// When the directory cannot be read, or a file not be removed.
    pub fn sweep(&self, age: Duration) -> Result<(), FileError> {
        let entries = fs::read_dir(&self.dir).map_err(FileError::io("read", &self.dir))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(sha256) = path.file_stem().and_then(|stem| stem.to_str()) else {
                continue;
            };
            let is_part = path.extension().is_some_and(|extension| extension == PART);
            let touched = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let is_old = touched.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|past| past >= age));
            if let Some(_turn) = (is_part && is_old)
                .then(|| self.arriving.try_lock(sha256.to_owned()))
                .flatten()
            {
                durable::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// What is not removed now is in nobody's way, and swept later.
fn discard(part: &Path) {
    if let Err(error) = durable::remove(part) {
        tracing::warn!(%error, "part of a package is left behind");
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut digest, mut chunk) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex::encode(digest.finalize())),
            read => digest.update(&chunk[..read]),
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn body(parts: &[&'static str]) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
        let parts: Vec<_> = parts.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
        stream::iter(parts)
    }

    /// A body that breaks off.
    fn torn(part: &'static str) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + use<> {
        stream::iter([Ok(Bytes::from_static(part.as_bytes())), Err(io::Error::other("gone"))])
    }

    fn count(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).unwrap().count()
    }

    #[tokio::test]
    async fn a_package_gets_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().to_owned());
        let sha256 = hex::encode(Sha256::digest(b"onetwo"));
        let wrong = packages.put(&sha256, 0, body(&["one", "tw"])).await;
        assert!(matches!(wrong, Err(PutError::Digest { resumed: false, .. })));
        assert_eq!(count(&dir), 0, "nothing is left behind");
        assert_eq!(packages.look(&sha256).await, Presence::Part(0));

        packages.put(&sha256, 0, body(&["one", "two"])).await.unwrap();
        assert_eq!(fs::read(packages.find(&sha256).unwrap()).unwrap(), b"onetwo");
        assert_eq!(packages.look(&sha256).await, Presence::Whole);
        for name in ["../x", "", &sha256.to_uppercase()] {
            assert!(matches!(packages.put(name, 0, body(&[])).await, Err(PutError::Name(_))));
            assert_eq!(packages.look(name).await, Presence::Part(0));
        }
    }

    #[tokio::test]
    async fn a_sender_goes_on_where_the_last_one_broke_off() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().to_owned());
        let sha256 = hex::encode(Sha256::digest(b"onetwothree"));
        assert!(matches!(
            packages.put(&sha256, 0, torn("one")).await,
            Err(PutError::Body(_))
        ));
        assert_eq!(packages.look(&sha256).await, Presence::Part(3));
        assert!(matches!(
            packages.put(&sha256, 3, torn("two")).await,
            Err(PutError::Body(_))
        ));
        // As after a restart of the agent.
        let packages = Packages::open(dir.path().to_owned());
        let late = packages.put(&sha256, 3, body(&["twothree"])).await;
        assert!(matches!(late, Err(PutError::Offset { from: 3, there: 6 })));
        packages.put(&sha256, 6, body(&["three"])).await.unwrap();
        assert_eq!(packages.look(&sha256).await, Presence::Whole);
        assert_eq!(count(&dir), 1);
    }

    #[tokio::test]
    async fn a_part_that_is_damaged_is_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().to_owned());
        let sha256 = hex::encode(Sha256::digest(b"onetwo"));
        fs::write(packages.part(&sha256), "0ne").unwrap();
        let wrong = packages.put(&sha256, 3, body(&["two"])).await;
        assert!(matches!(wrong, Err(PutError::Digest { resumed: true, .. })));
        assert_eq!(packages.look(&sha256).await, Presence::Part(0));
        // Whoever does not ask begins anew.
        fs::write(packages.part(&sha256), "longer than all of it").unwrap();
        packages.put(&sha256, 0, body(&["onetwo"])).await.unwrap();
    }

    #[tokio::test]
    async fn of_two_senders_one_sends() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().to_owned());
        let sha256 = hex::encode(Sha256::digest(b"onetwo"));
        let (pieces, first) = tokio::sync::mpsc::unbounded_channel();
        let first = stream::unfold(first, async |mut pieces| Some((Ok(pieces.recv().await?), pieces)));
        let first = tokio::spawn({
            let (packages, sha256) = (packages.clone(), sha256.clone());
            async move { packages.put(&sha256, 0, Box::pin(first)).await }
        });
        pieces.send(Bytes::from_static(b"one")).unwrap();
        while packages.arrived(&sha256) == 0 {
            tokio::task::yield_now().await;
        }
        let second = packages.put(&sha256, 0, body(&["never read"]));
        let third = packages.look(&sha256);
        pieces.send(Bytes::from_static(b"two")).unwrap();
        drop(pieces);
        let (second, third) = tokio::join!(second, third);
        second.unwrap();
        assert_eq!(third, Presence::Whole);
        first.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn old_parts_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().to_owned());
        let sha256 = hex::encode(Sha256::digest(b"one"));
        packages.put(&sha256, 0, body(&["one"])).await.unwrap();
        let part = dir.path().join(format!("{}.part", "0".repeat(64)));
        fs::write(&part, "x").unwrap();
        packages.sweep(Duration::from_secs(60)).unwrap();
        assert!(part.exists());
        packages.sweep(Duration::ZERO).unwrap();
        assert!(!part.exists() && packages.find(&sha256).is_some());
    }
}
