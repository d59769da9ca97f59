//! A package on its way in: multipart, part `file`, written to disk as it comes.

use std::{
    io,
    path::{Path, PathBuf},
};

use axum::{
    extract::{
        FromRequest as _, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::header::CONTENT_LENGTH,
};
use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
};

use crate::http::{
    ApiError, ApiResult, Fault,
    body::{CHUNK_PATIENCE, MULTIPART_ROOM},
};

const PART: &str = "file";

/// A file that has arrived; removed unless somebody has moved it elsewhere.
pub struct Upload {
    /// Where it lies.
    pub path: PathBuf,
    /// What the client called it.
    pub file_name: String,
}

impl Upload {
    /// Takes the part `file` of a request, of at most `limit` bytes, into `dir`. Other parts are passed over.
    pub async fn receive(request: Request, dir: &Path, limit: u64) -> ApiResult<Self> {
        let announced = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|bytes: u64| bytes > limit + MULTIPART_ROOM) {
            return Err(ApiError::fault(Fault::TooLarge(limit)));
        }
        let multipart = Multipart::from_request(request, &()).await;
        let mut multipart = multipart.map_err(|_| ApiError::fault(Fault::ContentType("multipart/form-data")))?;
        let mut upload = None;
        let mut room = MULTIPART_ROOM;
        // To the end, so that what comes after the file is not taken for it or lost without a word.
        while let Some(field) = in_time(multipart.next_field()).await? {
            if field.name() != Some(PART) {
                room = pass_over(field, room).await?;
            } else if upload.is_some() {
                return Err(ApiError::fault(Fault::RepeatedPart(PART)));
            } else {
                upload = Some(Self::write(field, dir, limit).await?);
            }
        }
        upload.ok_or_else(|| ApiError::fault(Fault::MissingPart(PART)))
    }

    async fn write(mut field: Field<'_>, dir: &Path, limit: u64) -> ApiResult<Self> {
        let upload = Self {
            path: dir.join(uuid::Uuid::new_v4().simple().to_string()),
            file_name: field.file_name().unwrap_or_default().to_owned(),
        };
        let failed = |error: io::Error| ApiError::storage("the upload cannot be written", &error);
        let mut file = BufWriter::new(File::create_new(&upload.path).await.map_err(failed)?);
        let mut size = 0;
        while let Some(chunk) = in_time(field.chunk()).await? {
            size += chunk.len() as u64;
            if size > limit {
                return Err(ApiError::fault(Fault::TooLarge(limit)));
            }
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.get_ref().sync_all().await.map_err(failed)?;
        Ok(upload)
    }
}

/// Reads a part that nobody wants. → the room that is left for others
async fn pass_over(mut field: Field<'_>, mut room: u64) -> ApiResult<u64> {
    while let Some(chunk) = in_time(field.chunk()).await? {
        let left = room.checked_sub(chunk.len() as u64);
        room = left.ok_or_else(|| ApiError::fault(Fault::TooLarge(MULTIPART_ROOM)))?;
    }
    Ok(room)
}

async fn in_time<T>(read: impl Future<Output = Result<T, MultipartError>>) -> ApiResult<T> {
    let broken = || ApiError::fault(Fault::BodyBroken);
    tokio::time::timeout(CHUNK_PATIENCE, read)
        .await
        .map_err(|_| broken())?
        .map_err(|_| broken())
}

impl Drop for Upload {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "an upload is left behind"),
        }
    }
}
