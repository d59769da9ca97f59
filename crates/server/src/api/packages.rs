//! Software packages: `/api/v2/software-packages…`, and their files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{
        DefaultBodyLimit, FromRequest as _, Multipart, Request, State,
        multipart::{Field, MultipartError},
    },
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use obfleet_wire::{envelope::Paged, package::SoftwarePackage};
use serde_json::Value;
use tokio::{
    fs::File,
    io::{AsyncWriteExt as _, BufWriter},
};
use tokio_util::io::ReaderStream;

use crate::{
    app::{App, AppState},
    http::{ApiError, ApiResult, Data, Fault, ListQuery, NoData, PathIds},
};

const PART: &str = "file";
/// Room for the multipart borders and the other parts' headers around a file of the largest size.
const MULTIPART_ROOM: u64 = 64 * 1024;
/// Time between two chunks of an upload.
const PATIENCE: Duration = Duration::from_secs(30);

/// Below `/api/v2/software-packages`.
pub fn routes() -> Router<Arc<App>> {
    // A package is bounded while it is written to disk, not in memory.
    let upload = post(upload).layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/", get(list).merge(upload))
        .route("/{id}", delete(remove))
}

/// Lists packages by type, version, operating system, architecture and keyword.
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Value>>> {
    let mut packages = app.fleet.packages().await?;
    packages.retain(|package| {
        query.mentions("keyword", &[&package.file_name])
            && query.admits("type", &package.package_type)
            && query.admits("version", &package.version)
            && query.admits("operatingSystem", &package.operating_system)
            && query.admits("architecture", &package.architecture)
    });
    Ok(Data(query.page(packages)?))
}

/// Takes a package in: multipart, part `file`. What it is, is read from its header.
pub async fn upload(State(app): AppState, request: Request) -> ApiResult<Data<SoftwarePackage>> {
    let limit = app.max_package_bytes;
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit + MULTIPART_ROOM) {
        return Err(ApiError::fault(Fault::TooLarge(limit)));
    }
    let multipart = Multipart::from_request(request, &()).await;
    let mut multipart = multipart.map_err(|_| ApiError::fault(Fault::ContentType("multipart/form-data")))?;
    loop {
        let field = in_time(multipart.next_field()).await?;
        let field = field.ok_or_else(|| ApiError::fault(Fault::MissingPart(PART)))?;
        if field.name() == Some(PART) {
            let file_name = field.file_name().unwrap_or_default().to_owned();
            let upload = Upload::receive(field, &app.uploads, limit).await?;
            return Ok(Data(app.fleet.add_package(&upload.path, &file_name).await?));
        }
    }
}

async fn in_time<T>(read: impl Future<Output = Result<T, MultipartError>>) -> ApiResult<T> {
    let broken = || ApiError::fault(Fault::BodyBroken);
    tokio::time::timeout(PATIENCE, read)
        .await
        .map_err(|_| broken())?
        .map_err(|_| broken())
}

/// A file on its way in; removed unless the fleet has moved it to the packages.
struct Upload {
    path: PathBuf,
}

impl Upload {
    async fn receive(mut field: Field<'_>, dir: &Path, limit: u64) -> ApiResult<Self> {
        let upload = Self {
            path: dir.join(uuid::Uuid::new_v4().simple().to_string()),
        };
        let failed = |error: std::io::Error| ApiError::internal(format!("the upload cannot be written: {error}"));
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

impl Drop for Upload {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "an upload is left behind"),
        }
    }
}

/// Removes a package nothing uses.
pub async fn remove(State(app): AppState, path: PathIds) -> ApiResult<NoData> {
    app.fleet.remove_package(path.id("id")?).await?;
    Ok(NoData)
}

/// The file of a package.
pub async fn download(State(app): AppState, path: PathIds) -> ApiResult<Response> {
    let file = app.fleet.package_file(path.text("fileName")).await?;
    file_response(&file).await
}

/// A package file as an answer.
pub(super) async fn file_response(path: &Path) -> ApiResult<Response> {
    let failed = |error: std::io::Error| ApiError::internal(format!("the file of the package cannot be read: {error}"));
    let file = File::open(path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let headers = [
        (CONTENT_TYPE, "application/x-rpm".to_owned()),
        (CONTENT_LENGTH, size.to_string()),
    ];
    Ok((StatusCode::OK, headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
