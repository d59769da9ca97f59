//! Requests signed with an access key ([`signature`]): whose they are, and that nobody sends one of them twice.
//!
//! A signature covers the body, so that has to be here before anybody is let in: in memory, or, of a package's upload, in
//! a file without a name.

use std::{
    io::SeekFrom,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::{Body, BodyDataStream},
    extract::Request,
    http::Method,
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use md5::{Digest as _, Md5};
use obfleet_fleet::secrets::{SealError, Sealer};
use obfleet_store::{
    access_keys::{AccessKeys, AccessKeysError},
    users::User,
};
use obfleet_wire::{Code, time::Timestamp};
use tokio::{
    fs::File,
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::io::ReaderStream;

use super::signature::{Claim, Signed, Unsigned, WINDOW};
use crate::http::{
    ApiError, ApiResult, Fault,
    body::{self, CHUNK_PATIENCE, MULTIPART_ROOM},
    fault::LoginFault,
};

/// The only path whose requests may have more than [`body::LIMIT`] bytes.
const UPLOADS: &str = "/api/v2/software-packages";
/// Uploads that are on the disk before it is known who sends them.
const MOST_UPLOADS: usize = 2;
/// Servers' clocks may differ: a signature is remembered for longer than any of them lets it in.
const REMEMBERED: Duration = Duration::from_secs(2 * WINDOW.as_secs());

/// What becomes of a body of more than [`body::LIMIT`] bytes.
#[derive(Clone, Copy)]
enum Large {
    /// It goes to the disk.
    Spooled,
    /// Its path takes none.
    Refused,
    /// No key lets its sender in, whatever it is.
    OfNobody,
}

/// Checks signed requests.
pub struct SignedRequests {
    keys: AccessKeys,
    sealer: Sealer,
    /// Where uploads wait.
    uploads: PathBuf,
    /// Bytes an upload may have.
    most_bytes: u64,
    room: Arc<Semaphore>,
}

impl SignedRequests {
    /// Checks requests by these keys; uploads of packages of up to `max_package_bytes` wait in a directory.
    pub fn new(keys: AccessKeys, sealer: Sealer, uploads: PathBuf, max_package_bytes: u64) -> Self {
        Self {
            keys,
            sealer,
            uploads,
            most_bytes: max_package_bytes.saturating_add(MULTIPART_ROOM),
            room: Arc::new(Semaphore::new(MOST_UPLOADS)),
        }
    }

    /// The user whose key the request is signed with, and the request, its body whole.
    pub async fn check(&self, claim: Claim, request: Request) -> ApiResult<(User, Request)> {
        let now = SystemTime::now();
        let (parts, body) = request.into_parts();
        let signed = Signed::of(&parts, now).map_err(|why| unsigned(why, now))?;
        let found = self.keys.find(&claim.access_key).await.map_err(failed)?;
        // The disk is for those who may turn out to be somebody.
        let is_upload = parts.method == Method::POST && parts.uri.path().trim_end_matches('/') == UPLOADS;
        let large = match &found {
            _ if !is_upload => Large::Refused,
            Some((key, user)) if key.enabled && user.enabled => Large::Spooled,
            _ => Large::OfNobody,
        };
        let (md5, body) = self.arrive(body, large).await?;
        // A key that nobody has costs what one costs that somebody has.
        let secret = match &found {
            Some((key, _)) => self.sealer.open(&key.secret).map_err(sealed)?,
            None => String::new(),
        };
        let date = claim.is_of(&signed, &md5, &secret);
        let (Some((key, user)), Some(date)) = (found, date) else {
            return Err(refused(LoginFault::Signature));
        };
        if !key.enabled {
            return Err(refused(LoginFault::Disabled));
        }
        if !user.enabled {
            return Err(ApiError::plain(Code::Iam10001));
        }
        // Who repeats a question learns no more; who asks the same twice in a second signs the same.
        if !parts.method.is_safe() {
            let expires = (date + REMEMBERED).duration_since(UNIX_EPOCH).unwrap_or_default();
            let expires = Timestamp(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX));
            if !self.keys.use_signature(&claim.id(), expires).await.map_err(failed)? {
                return Err(refused(LoginFault::Used));
            }
        }
        Ok((user, Request::from_parts(parts, body)))
    }

    /// Forgets what nobody could repeat any more.
    pub async fn forget(&self) -> Result<u64, AccessKeysError> {
        self.keys.forget_signatures(Timestamp::now()).await
    }

    /// The body once all of it is here, and its MD5 as it is signed.
    async fn arrive(&self, body: Body, large: Large) -> ApiResult<(String, Body)> {
        let mut chunks = body.into_data_stream();
        let mut md5 = Md5::new();
        let mut whole = BytesMut::new();
        while let Some(chunk) = next(&mut chunks).await? {
            md5.update(&chunk);
            if whole.len() + chunk.len() > body::LIMIT {
                let body = match large {
                    Large::Spooled => self.spool(&whole, chunk, chunks, &mut md5).await?,
                    Large::Refused => return Err(ApiError::fault(Fault::TooLarge(body::LIMIT as u64))),
                    Large::OfNobody => return Err(refused(LoginFault::Signature)),
                };
                return Ok((hex::encode_upper(md5.finalize()), body));
            }
            whole.extend_from_slice(&chunk);
        }
        match whole.is_empty() {
            true => Ok((String::new(), Body::empty())),
            false => Ok((hex::encode_upper(md5.finalize()), Body::from(whole.freeze()))),
        }
    }

    /// Writes a body to the disk, to read it again from there.
    async fn spool(&self, begin: &[u8], chunk: Bytes, mut rest: BodyDataStream, md5: &mut Md5) -> ApiResult<Body> {
        let written = |error| ApiError::storage("the upload cannot be written", &error);
        let room = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(ApiError::internal)?;
        let mut file = File::from_std(tempfile::tempfile_in(&self.uploads).map_err(written)?);
        let mut size = (begin.len() + chunk.len()) as u64;
        file.write_all(begin).await.map_err(written)?;
        file.write_all(&chunk).await.map_err(written)?;
        while let Some(chunk) = next(&mut rest).await? {
            size += chunk.len() as u64;
            if size > self.most_bytes {
                return Err(ApiError::fault(Fault::TooLarge(self.most_bytes - MULTIPART_ROOM)));
            }
            md5.update(&chunk);
            file.write_all(&chunk).await.map_err(written)?;
        }
        file.flush().await.map_err(written)?;
        file.seek(SeekFrom::Start(0)).await.map_err(written)?;
        let chunks = ReaderStream::new(file).map(move |chunk| {
            let _room = &room;
            chunk
        });
        Ok(Body::from_stream(chunks))
    }
}

async fn next(chunks: &mut BodyDataStream) -> ApiResult<Option<Bytes>> {
    let broken = || ApiError::fault(Fault::BodyBroken);
    let chunk = timeout(CHUNK_PATIENCE, chunks.next()).await.map_err(|_| broken())?;
    chunk.transpose().map_err(|_| broken())
}

fn unsigned(why: Unsigned, now: SystemTime) -> ApiError {
    refused(match why {
        Unsigned::Malformed => LoginFault::Malformed,
        Unsigned::NoDate => LoginFault::NoDate,
        Unsigned::Stale => LoginFault::Stale {
            now: httpdate::fmt_http_date(now),
        },
    })
}

fn refused(fault: LoginFault) -> ApiError {
    ApiError::fault(Fault::Login(fault))
}

fn failed(error: AccessKeysError) -> ApiError {
    ApiError::internal(error)
}

fn sealed(error: SealError) -> ApiError {
    ApiError::internal(error)
}
