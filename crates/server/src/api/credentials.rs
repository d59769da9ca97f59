//! The caller's own credentials for hosts: `/api/v2/profiles/me/credentials…`.

use axum::extract::State;
use obfleet_wire::{
    credential::{Credential, NewCredential},
    envelope::Paged,
};

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiResult, Data, Entry, Json, ListQuery, NoData, PathIds},
    routes::Routes,
};

/// Below `/api/v2/profiles/me`. They are the caller's own; who may not change hosts has no use for them.
pub fn routes() -> Routes {
    Routes::new()
        .get("/credentials", Right::HostView.shared(), list)
        .post("/credentials", Right::HostManage.shared(), add)
        .get("/credentials/{credentialId}", Right::HostView.shared(), detail)
        .delete("/credentials/{credentialId}", Right::HostManage.shared(), remove)
}

/// Lists the caller's credentials, by `keyword` in the name or the user of the host.
pub async fn list(
    State(app): AppState,
    Who(actor, _): Who,
    query: ListQuery,
) -> ApiResult<Data<Paged<Entry<Credential>>>> {
    let mut credentials = app.fleet.credentials(&actor).await?;
    credentials.retain(|credential| {
        let username = &credential.ssh_credential_property.username;
        query.mentions("keyword", &[&credential.name, username])
    });
    Ok(Data(query.page(credentials)?))
}

/// Shows one of the caller's credentials.
pub async fn detail(State(app): AppState, Who(actor, _): Who, path: PathIds) -> ApiResult<Data<Credential>> {
    Ok(Data(app.fleet.credential(&actor, path.id("credentialId")?).await?))
}

/// Keeps a credential of the caller's.
pub async fn add(
    State(app): AppState,
    Who(actor, _): Who,
    Json(body): Json<NewCredential>,
) -> ApiResult<Data<Credential>> {
    Ok(Data(app.fleet.add_credential(&actor, body).await?))
}

/// Forgets one of the caller's credentials.
pub async fn remove(State(app): AppState, Who(actor, _): Who, path: PathIds) -> ApiResult<NoData> {
    app.fleet.remove_credential(&actor, path.id("credentialId")?).await?;
    Ok(NoData)
}
