//! Regions, IDCs and host types: `/api/v2/compute/regions…`, `…/idcs…`, `…/hostTypes…`.

use axum::extract::State;
use obfleet_fleet::inventory::SiteKind;
use obfleet_wire::{
    envelope::Paged,
    site::{HostType, Idc, NewIdc, NewSite, Region},
};

use crate::{
    app::{App, AppState},
    auth::right::Right,
    http::{ApiResult, Data, Entry, Json, ListQuery, NoData, PathIds},
    routes::Routes,
};

/// Below `/api/v2/compute`.
pub fn routes() -> Routes {
    let (view, manage) = (Right::HostView.shared(), Right::HostManage.whole());
    Routes::new()
        .get("/regions", view, regions)
        .post("/regions", manage, add_region)
        .get("/regions/{regionId}", view, region)
        .delete("/regions/{regionId}", manage, remove_region)
        .get("/idcs", view, idcs)
        .post("/idcs", manage, add_idc)
        .get("/idcs/{idcId}", view, idc)
        .delete("/idcs/{idcId}", manage, remove_idc)
        .get("/hostTypes", view, host_types)
        .post("/hostTypes", manage, add_host_type)
        .get("/hostTypes/{typeId}", view, host_type)
        .delete("/hostTypes/{typeId}", manage, remove_host_type)
}

/// Lists regions, by `keyword` in the name.
pub async fn regions(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<Region>>>> {
    let mut regions = app.fleet.regions().await?;
    regions.retain(|region| query.mentions("keyword", &[&region.name]));
    Ok(Data(query.page(regions)?))
}

/// Lists IDCs, by `keyword` in the name and by `regionId`.
pub async fn idcs(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<Idc>>>> {
    let mut idcs = app.fleet.idcs().await?;
    let region = query.id("regionId")?;
    idcs.retain(|idc| query.mentions("keyword", &[&idc.name]) && region.is_none_or(|id| id == idc.region_id));
    Ok(Data(query.page(idcs)?))
}

/// Lists host types, by `keyword` in the name.
pub async fn host_types(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<HostType>>>> {
    let mut types = app.fleet.host_types().await?;
    types.retain(|host_type| query.mentions("keyword", &[&host_type.name]));
    Ok(Data(query.page(types)?))
}

/// Shows one region.
pub async fn region(State(app): AppState, path: PathIds) -> ApiResult<Data<Region>> {
    Ok(Data(app.fleet.region(path.id("regionId")?).await?))
}

/// Shows one IDC.
pub async fn idc(State(app): AppState, path: PathIds) -> ApiResult<Data<Idc>> {
    Ok(Data(app.fleet.idc(path.id("idcId")?).await?))
}

/// Shows one host type.
pub async fn host_type(State(app): AppState, path: PathIds) -> ApiResult<Data<HostType>> {
    Ok(Data(app.fleet.host_type(path.id("typeId")?).await?))
}

/// Adds a region.
pub async fn add_region(State(app): AppState, Json(body): Json<NewSite>) -> ApiResult<Data<Region>> {
    Ok(Data(app.fleet.add_region(body).await?))
}

/// Adds an IDC to a region.
pub async fn add_idc(State(app): AppState, Json(body): Json<NewIdc>) -> ApiResult<Data<Idc>> {
    Ok(Data(app.fleet.add_idc(body).await?))
}

/// Adds a host type.
pub async fn add_host_type(State(app): AppState, Json(body): Json<NewSite>) -> ApiResult<Data<HostType>> {
    Ok(Data(app.fleet.add_host_type(body).await?))
}

/// Removes a region without IDCs.
pub async fn remove_region(State(app): AppState, path: PathIds) -> ApiResult<NoData> {
    remove(&app, SiteKind::Region, path.id("regionId")?).await
}

/// Removes an IDC without hosts.
pub async fn remove_idc(State(app): AppState, path: PathIds) -> ApiResult<NoData> {
    remove(&app, SiteKind::Idc, path.id("idcId")?).await
}

/// Removes a host type without hosts.
pub async fn remove_host_type(State(app): AppState, path: PathIds) -> ApiResult<NoData> {
    remove(&app, SiteKind::HostType, path.id("typeId")?).await
}

async fn remove(app: &App, kind: SiteKind, id: i64) -> ApiResult<NoData> {
    app.fleet.remove_site(kind, id).await?;
    Ok(NoData)
}
