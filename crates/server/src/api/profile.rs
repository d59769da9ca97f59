//! What users are told of themselves, and do for themselves: `/api/v2/profiles/me…`. Open also to who has to change the
//! password before anything else.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use obfleet_wire::{
    Code, Refusal,
    iam::{ChangePassword, Profile, RightOfUser},
    time::Timestamp,
};

use super::users::{failed, hash, roles_shown};
use crate::{
    app::AppState,
    auth::{AuthError, Who, access::Access, basic::Credentials, rules},
    http::{ApiError, ApiResult, Data, Json, NoData},
    routes::Routes,
};

/// Below `/api/v2/profiles/me`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/", Access::Own, me)
        .post("/changePassword", Access::Own, change_password)
}

/// Who the caller is, and what the caller may do.
pub async fn me(State(app): AppState, Who(who, login): Who) -> ApiResult<Data<Profile>> {
    let user = app.users.get(who.id).await.map_err(failed)?;
    let right = |(right, scope): (crate::auth::right::Right, &crate::auth::granted::Scope)| RightOfUser {
        cluster_ids: scope.clusters().map(|ids| ids.iter().copied().collect()),
        name: right.name().to_owned(),
    };
    Ok(Data(Profile {
        id: who.id,
        name: who.name,
        need_change_password: login.must_change,
        rights: login.granted.rights().map(right).collect(),
        roles: user.map(|user| roles_shown(user.roles)).unwrap_or_default(),
    }))
}

/// Changes the caller's password. The present one is asked for, whoever the caller is known by, and guesses at it count as
/// failed logins. The caller's other sessions end.
pub async fn change_password(
    State(app): AppState,
    Who(who, login): Who,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Json(body): Json<ChangePassword>,
) -> ApiResult<NoData> {
    rules::password(&body.new_password, "newPassword")?;
    if body.new_password == body.current_password {
        return Err(Refusal::new(Code::Iam10021, [""; 0]).field("newPassword").into());
    }
    let present = Credentials {
        user: who.name.clone(),
        password: body.current_password,
    };
    match app.authenticator.authenticate(present, peer.ip()).await {
        Ok(_) => {}
        Err(AuthError::Wrong { .. }) => {
            return Err(Refusal::new(Code::Iam10011, [""; 0]).field("currentPassword").into());
        }
        Err(error) => return Err(error.into()),
    }
    let hash = hash(body.new_password).await?;
    let set = app
        .users
        .set_password(who.id, &hash, false, login.session.as_deref(), Timestamp::now());
    if !set.await.map_err(failed)? {
        return Err(ApiError::plain(Code::Iam10001));
    }
    tracing::info!(user = who.name, "a user has changed the password");
    Ok(NoData)
}
