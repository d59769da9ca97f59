//! Package files as the server put them, named by their SHA-256.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::{fs::File, io::AsyncWriteExt as _};
use uuid::Uuid;

use crate::durable::{self, FileError};

/// No OBProxy package comes near this size.
pub const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// A package file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The name of a package file is the digest of its content.
    #[error("'{0}' is not a SHA-256 in lower case hexadecimal")]
    Name(String),
    /// More than [`MAX_BYTES`].
    #[error("the package is larger than {} MiB", MAX_BYTES / 1024 / 1024)]
    TooLarge,
    /// The content is not what its name says.
    #[error("the package has SHA-256 {found}, announced was {announced}: it was damaged on the way, send it again")]
    Digest {
        /// The name.
        announced: String,
        /// The content's.
        found: String,
    },
    /// The sender went away.
    #[error("the package did not arrive whole")]
    Body(#[source] io::Error),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The directory of package files.
#[derive(Debug, Clone)]
pub struct Packages {
    dir: PathBuf,
}

impl Packages {
    /// Opens the directory and drops what an interrupted upload left.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open(dir: PathBuf) -> Result<Self, FileError> {
        let entries = fs::read_dir(&dir).map_err(FileError::io("read", &dir))?;
        for entry in entries
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|x| x == "part"))
        {
            durable::remove(&entry.path())?;
        }
        Ok(Self { dir })
    }

    /// Where the package of this digest lies, if it is here.
    pub fn find(&self, sha256: &str) -> Option<PathBuf> {
        is_digest(sha256)
            .then(|| self.path(sha256))
            .filter(|path| path.is_file())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.rpm"))
    }

    /// Stores a package, checking its digest while it is written; it has its name only when it is whole.
    ///
    /// # Errors
    /// When the name is no digest, the content is another one or too large, or it cannot be received or written.
    pub async fn put(
        &self,
        sha256: &str,
        body: impl Stream<Item = Result<Bytes, io::Error>> + Send,
    ) -> Result<(), PutError> {
        if !is_digest(sha256) {
            return Err(PutError::Name(sha256.to_owned()));
        }
        let part = Part(self.dir.join(format!("{}.part", Uuid::new_v4().simple())));
        let found = receive(&part.0, body).await?;
        if found != sha256 {
            let announced = sha256.to_owned();
            return Err(PutError::Digest { announced, found });
        }
        let path = self.path(sha256);
        fs::rename(&part.0, &path).map_err(FileError::io("write", &path))?;
        durable::sync_parent(&path)?;
        Ok(())
    }
}

/// A file being written; removed unless it got its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // Renamed or never made: nothing to remove.
        let _ = fs::remove_file(&self.0).is_ok();
    }
}

/// Writes the body to the file, on to the disk; returns its digest.
async fn receive(path: &Path, body: impl Stream<Item = Result<Bytes, io::Error>> + Send) -> Result<String, PutError> {
    let mut body = std::pin::pin!(body);
    let mut file = File::create(path).await.map_err(FileError::io("write", path))?;
    let (mut digest, mut size) = (Sha256::new(), 0_u64);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(PutError::Body)?;
        size += chunk.len() as u64;
        if size > MAX_BYTES {
            return Err(PutError::TooLarge);
        }
        digest.update(&chunk);
        file.write_all(&chunk).await.map_err(FileError::io("write", path))?;
    }
    file.flush().await.map_err(FileError::io("write", path))?;
    file.sync_all().await.map_err(FileError::io("sync", path))?;
    Ok(hex::encode(digest.finalize()))
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

    #[tokio::test]
    async fn a_package_gets_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().to_owned()).unwrap();
        let digest = hex::encode(Sha256::digest(b"onetwo"));
        let wrong = packages.put(&digest, body(&["one", "tw"])).await;
        assert!(matches!(wrong, Err(PutError::Digest { .. })));
        let torn = stream::iter([Ok(Bytes::from_static(b"one")), Err(io::Error::other("gone"))]);
        assert!(matches!(packages.put(&digest, torn).await, Err(PutError::Body(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
        assert_eq!(packages.find(&digest), None);

        packages.put(&digest, body(&["one", "two"])).await.unwrap();
        assert_eq!(fs::read(packages.find(&digest).unwrap()).unwrap(), b"onetwo");
        for name in ["../x", "", &digest.to_uppercase()] {
            assert!(matches!(packages.put(name, body(&[])).await, Err(PutError::Name(_))));
        }
    }
}
