//! A file as the one part of a form, never whole in memory.

use std::{
    io,
    path::{Path, PathBuf},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use md5::{Digest as _, Md5};
use reqwest::Body;
use tokio::{fs::File, io::AsyncReadExt as _};
use tokio_util::io::ReaderStream;

use super::ClientError;

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// A form with the part `file`.
pub struct Form {
    /// `multipart/form-data` with the boundary.
    pub content_type: String,
    path: PathBuf,
    size: u64,
    head: String,
    tail: String,
}

impl Form {
    /// Around this file.
    pub async fn of(path: &Path) -> Result<Self, ClientError> {
        let metadata = tokio::fs::metadata(path).await.map_err(|source| failed(path, source))?;
        if !metadata.is_file() {
            return Err(failed(path, io::Error::other("it is no file")));
        }
        let boundary = hex::encode(rand::random::<[u8; 16]>());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What would end the name or the line.
        let name = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        Ok(Self {
            content_type: format!("multipart/form-data; boundary={boundary}"),
            path: path.to_owned(),
            size: metadata.len(),
            head: format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            ),
            tail: format!("\r\n--{boundary}--\r\n"),
        })
    }

    /// Bytes of the whole body.
    pub fn length(&self) -> u64 {
        self.head.len() as u64 + self.size + self.tail.len() as u64
    }

    /// Its digest, as it is signed.
    pub async fn md5(&self) -> Result<String, ClientError> {
        let mut file = self.open().await?;
        let (mut md5, mut piece) = (Md5::new(), vec![0; PIECE]);
        md5.update(&self.head);
        loop {
            match file
                .read(&mut piece)
                .await
                .map_err(|source| failed(&self.path, source))?
            {
                0 => break,
                read => md5.update(&piece[..read]),
            }
        }
        md5.update(&self.tail);
        Ok(hex::encode_upper(md5.finalize()))
    }

    /// The body; `told` is told of each piece of the file.
    pub async fn body(&self, told: impl Fn(u64) + Send + Sync + 'static) -> Result<Body, ClientError> {
        // One that grows meanwhile is not what was announced.
        let file = self.open().await?.take(self.size);
        let pieces = ReaderStream::with_capacity(file, PIECE).inspect_ok(move |piece| told(piece.len() as u64));
        let around = |text: &str| stream::iter([Ok(text.to_owned().into_bytes().into())]);
        Ok(Body::wrap_stream(
            around(&self.head).chain(pieces).chain(around(&self.tail)),
        ))
    }

    async fn open(&self) -> Result<File, ClientError> {
        File::open(&self.path)
            .await
            .map_err(|source| failed(&self.path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> ClientError {
    ClientError::File {
        path: path.to_owned(),
        source,
    }
}
