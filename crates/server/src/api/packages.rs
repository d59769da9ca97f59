//! Software packages: `/api/v2/software-packages…`, and their files.

mod download;
mod upload;

use std::time::Duration;

use axum::{
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, Method},
    response::Response,
    routing::post,
};
use obfleet_wire::{envelope::Paged, package::SoftwarePackage};

pub use self::download::answer as file_response;
use self::upload::Upload;
use crate::{
    app::AppState,
    auth::right::Right,
    http::{ApiError, ApiResult, Data, Entry, Fault, ListQuery, NoData, PathIds},
    openapi::described::operation,
    routes::Routes,
};

/// Uploads that may be on their way at once: each takes up to a package's size of disk before it is known what it is.
pub const MOST_UPLOADS: usize = 8;
const COME_BACK: Duration = Duration::from_secs(10);

/// Below `/api/v2`.
pub fn routes() -> Routes {
    // A package is bounded while it is written to disk, not in memory.
    let described = operation::<((), _, _), _>(&upload);
    let upload = post(upload).layer(DefaultBodyLimit::disable());
    let manage = Right::PackageManage.whole();
    Routes::new()
        .get("/software-packages", Right::PackageView.shared(), list)
        .on(Method::POST, "/software-packages", manage, described, upload)
        .delete("/software-packages/{id}", manage, remove)
        .get("/files/sys-package/{fileName}", Right::PackageView.shared(), download)
}

/// Lists packages by type, version, operating system, architecture and keyword.
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<SoftwarePackage>>>> {
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
    // At once rather than in turn: who waits for others' slow lines cannot tell that from a server that hangs.
    let place = app.upload_places.try_acquire();
    let _place = place.map_err(|_| ApiError::fault(Fault::TooManyUploads(MOST_UPLOADS)).retry_after(COME_BACK))?;
    let upload = Upload::receive(request, &app.uploads, app.max_package_bytes).await?;
    Ok(Data(app.fleet.add_package(&upload.path, &upload.file_name).await?))
}

/// Removes a package nothing uses.
pub async fn remove(State(app): AppState, path: PathIds) -> ApiResult<NoData> {
    app.fleet.remove_package(path.id("id")?).await?;
    Ok(NoData)
}

/// The file of a package, or a part of it.
pub async fn download(State(app): AppState, path: PathIds, headers: HeaderMap) -> ApiResult<Response> {
    let file = app.fleet.package_file(path.text("fileName")).await?;
    file_response(&file, &headers).await
}
