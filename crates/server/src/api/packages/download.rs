//! A package on its way out, whole or in parts.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG},
    },
    response::{IntoResponse as _, Response},
};
use obfleet_fleet::PackageOnDisk;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};
use tokio_util::io::ReaderStream;

use crate::http::{
    ApiError, ApiResult, Fault,
    range::{Part, part},
};

/// A package file, or what the headers ask for of it. Its `ETag` is its SHA-256.
pub async fn answer(package: &PackageOnDisk, asked: &HeaderMap) -> ApiResult<Response> {
    let failed = |error| ApiError::storage("the file of the package cannot be read", &error);
    let mut file = File::open(&package.path).await.map_err(failed)?;
    let size = file.metadata().await.map_err(failed)?.len();
    let etag = format!("\"{}\"", package.sha256);
    let (status, first, length) = match part(asked, size, &etag) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Bytes(bytes) => (
            StatusCode::PARTIAL_CONTENT,
            *bytes.start(),
            bytes.end() - bytes.start() + 1,
        ),
        Part::Beyond => {
            let mut refused = ApiError::fault(Fault::RangeBeyond(size)).into_response();
            put(&mut refused, CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(refused);
        }
        Part::Unchanged => {
            let mut unchanged = StatusCode::NOT_MODIFIED.into_response();
            put(&mut unchanged, ETAG, &etag);
            return Ok(unchanged);
        }
    };
    if first > 0 {
        file.seek(std::io::SeekFrom::Start(first)).await.map_err(failed)?;
    }
    let mut response = Body::from_stream(ReaderStream::new(file.take(length))).into_response();
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, "application/x-rpm");
    put(&mut response, CONTENT_LENGTH, &length.to_string());
    put(&mut response, ACCEPT_RANGES, "bytes");
    put(&mut response, ETAG, &etag);
    let disposition = format!("attachment; filename=\"{}\"", package.file_name);
    put(&mut response, CONTENT_DISPOSITION, &disposition);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{size}", first + length - 1);
        put(&mut response, CONTENT_RANGE, &range);
    }
    Ok(response)
}

/// Names of packages, digests and numbers are plain.
fn put(response: &mut Response, name: axum::http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
