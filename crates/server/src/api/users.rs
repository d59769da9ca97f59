//! Users: `/api/v2/iam/users…`. What is changed counts for the next request, on all servers. *admin* is there from the
//! beginning, and is neither deleted nor disabled nor given other roles: so there is always an administrator.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use obfleet_store::users::{User as Stored, UserChange, UserRole, UsersError};
use obfleet_wire::{
    Code, Refusal,
    envelope::Paged,
    iam::{ChangeUser, NewUser, ResetPassword, RoleOfUser, User},
    reason::{Arg, Reason, Thing},
    time::Timestamp,
};

use crate::{
    app::{App, AppState},
    auth::{Who, first_user, password, right::Right, role, rules},
    http::{ApiError, ApiResult, Data, Entry, Json, ListQuery, NoData, PathIds, Wanted},
    routes::Routes,
};

/// Characters a description may have.
pub(super) const LONGEST_DESCRIPTION: usize = 255;
/// Roles a user may have, and proxy clusters a role may be for: each is read with every request.
const MOST_ROLES: usize = 20;
const MOST_CLUSTERS: usize = 100;

/// Below `/api/v2/iam`.
pub fn routes() -> Routes {
    let (view, manage) = (Right::UserView.whole(), Right::UserManage.whole());
    Routes::new()
        .get("/users", view, list)
        .post("/users", manage, create)
        .get("/users/{userId}", view, detail)
        .patch("/users/{userId}", manage, change)
        .delete("/users/{userId}", manage, remove)
        .post("/users/{userId}/resetPassword", manage, reset_password)
        .post("/users/{userId}/unlock", manage, unlock)
}

/// Lists users, by `keyword` in name or description.
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<User>>>> {
    let locked: BTreeMap<_, _> = app
        .users
        .locked(Timestamp::now())
        .await
        .map_err(failed)?
        .into_iter()
        .collect();
    let users = app.users.all().await.map_err(failed)?;
    let asked = users
        .into_iter()
        .filter(|user| query.mentions("keyword", &[&user.name, &user.description]));
    let shown: Vec<User> = asked
        .map(|user| {
            let until = locked.get(&user.name).copied();
            shown(user, until)
        })
        .collect();
    Ok(Data(query.page(shown)?))
}

/// Shows one user.
pub async fn detail(State(app): AppState, path: PathIds) -> ApiResult<Data<User>> {
    let user = find(&app, path.id("userId")?).await?;
    show(&app, user).await
}

/// Adds a user.
pub async fn create(State(app): AppState, Who(who, _): Who, Json(body): Json<NewUser>) -> ApiResult<Data<User>> {
    rules::user_name(&body.name)?;
    rules::password(&body.password, "password")?;
    check_description(&body.description)?;
    let roles = roles(&app, &body.roles).await?;
    let hash = hash(body.password).await?;
    let id = app.users.take_id().await.map_err(failed)?;
    let user = Stored {
        must_change: body.need_change_password,
        description: body.description,
        ..Stored::new(id, &body.name, hash, roles)
    };
    if !app.users.insert(&user, Timestamp::now()).await.map_err(failed)? {
        let args = [Thing::UserKind.into(), Arg::Text(body.name)];
        return Err(Refusal::about(Code::Com10006, args).field("name").into());
    }
    tracing::info!(by = who.name, user = user.name, "a user was made");
    show(&app, find(&app, id).await?).await
}

/// Changes what a user may do, or whether the user is let in.
pub async fn change(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    Json(body): Json<ChangeUser>,
) -> ApiResult<Data<User>> {
    let user = find(&app, path.id("userId")?).await?;
    let is_first = user.name == first_user::ADMIN;
    if body.enabled == Some(false) && is_first {
        return Err(Refusal::new(Code::Iam11007, [user.name]).field("enabled").into());
    }
    if body.enabled == Some(false) && user.id == who.id {
        return Err(ApiError::plain(Code::Iam11008));
    }
    if body.roles.is_some() && is_first {
        return Err(Refusal::new(Code::Iam11006, [user.name]).field("roles").into());
    }
    if let Some(description) = &body.description {
        check_description(description)?;
    }
    let change = UserChange {
        enabled: body.enabled,
        description: body.description,
        roles: match &body.roles {
            Some(given) => Some(roles(&app, given).await?),
            None => None,
        },
    };
    let now = Timestamp::now();
    if !app.users.update(user.id, &change, now).await.map_err(failed)? {
        return Err(missing(user.id));
    }
    tracing::info!(by = who.name, user = user.name, "a user was changed");
    show(&app, find(&app, user.id).await?).await
}

/// Deletes a user, with access keys and sessions.
pub async fn remove(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<NoData> {
    let user = find(&app, path.id("userId")?).await?;
    if user.name == first_user::ADMIN {
        return Err(Refusal::new(Code::Iam11004, [user.name]).into());
    }
    if user.id == who.id {
        return Err(ApiError::plain(Code::Iam11008));
    }
    if !app.users.delete(user.id).await.map_err(failed)? {
        return Err(missing(user.id));
    }
    tracing::info!(by = who.name, user = user.name, "a user was deleted");
    Ok(NoData)
}

/// Gives a user another password, and forgets failed logins.
pub async fn reset_password(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    Json(body): Json<ResetPassword>,
) -> ApiResult<NoData> {
    let user = find(&app, path.id("userId")?).await?;
    rules::password(&body.password, "password")?;
    let hash = hash(body.password).await?;
    let set = app
        .users
        .set_password(user.id, &hash, body.need_change_password, None, Timestamp::now());
    if !set.await.map_err(failed)? {
        return Err(missing(user.id));
    }
    forgive(&app, &user.name).await?;
    tracing::info!(by = who.name, user = user.name, "a user's password was set");
    Ok(NoData)
}

/// Forgets a user's failed logins.
pub async fn unlock(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<NoData> {
    let user = find(&app, path.id("userId")?).await?;
    forgive(&app, &user.name).await?;
    tracing::info!(by = who.name, user = user.name, "a user was unlocked");
    Ok(NoData)
}

async fn forgive(app: &App, name: &str) -> ApiResult<()> {
    app.users.forgive(name).await.map_err(failed)?;
    app.authenticator.unlocked(name);
    Ok(())
}

/// The roles that are given, once all of it is checked.
async fn roles(app: &App, given: &[RoleOfUser]) -> ApiResult<Vec<UserRole>> {
    if given.len() > MOST_ROLES {
        let wanted = Wanted::AtMost(MOST_ROLES);
        return Err(ApiError::value("roles", &given.len().to_string(), wanted));
    }
    let custom = app.users.custom_roles().await.map_err(failed)?;
    let asked: BTreeSet<i64> = given
        .iter()
        .filter_map(|role| role.cluster_ids.as_ref())
        .flatten()
        .copied()
        .collect();
    let fleet = app.fleet.snapshot().await?;
    let unknown: BTreeSet<&i64> = asked.iter().filter(|id| !fleet.clusters.contains_key(id)).collect();
    let mut names = BTreeSet::new();
    let mut roles = Vec::new();
    for (index, role) in given.iter().enumerate() {
        let field = |member: &str| format!("roles[{index}].{member}");
        let is_there = role::built_in(&role.name).is_some() || custom.iter().any(|known| known.name == role.name);
        if !is_there {
            return Err(ApiError::value(&field("name"), &role.name, Wanted::Role));
        }
        if !names.insert(role.name.as_str()) {
            return Err(ApiError::value(&field("name"), &role.name, Wanted::Once));
        }
        let ids = role
            .cluster_ids
            .as_ref()
            .map(|ids| ids.iter().copied().collect::<BTreeSet<i64>>());
        if ids.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(Refusal::invalid(&field("clusterIds"), Reason::Empty).into());
        }
        if ids.as_ref().is_some_and(|ids| ids.len() > MOST_CLUSTERS) {
            let wanted = Wanted::AtMost(MOST_CLUSTERS);
            return Err(ApiError::value(&field("clusterIds"), "more", wanted));
        }
        if let Some(id) = ids.iter().flatten().find(|id| unknown.contains(id)) {
            return Err(ApiError::value(&field("clusterIds"), &id.to_string(), Wanted::Cluster));
        }
        roles.push(UserRole {
            name: role.name.clone(),
            clusters: ids,
            rights: Vec::new(),
        });
    }
    Ok(roles)
}

/// Checks a description in a request.
pub(super) fn check_description(text: &str) -> Result<(), Refusal> {
    if text.chars().count() > LONGEST_DESCRIPTION || text.chars().any(char::is_control) {
        let (least, most) = (0, LONGEST_DESCRIPTION);
        return Err(Refusal::invalid("description", Reason::TextForm { least, most }));
    }
    Ok(())
}

/// The hash of a new password.
pub(super) async fn hash(password: String) -> ApiResult<String> {
    let hashed = tokio::task::spawn_blocking(move || password::hash(&password)).await;
    hashed.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

async fn find(app: &App, id: i64) -> ApiResult<Stored> {
    let user = app.users.get(id).await.map_err(failed)?;
    user.ok_or_else(|| missing(id))
}

async fn show(app: &App, user: Stored) -> ApiResult<Data<User>> {
    let until = app.users.locked_until(&user.name, Timestamp::now());
    let until = until.await.map_err(failed)?;
    Ok(Data(shown(user, until)))
}

fn shown(user: Stored, locked_until: Option<Timestamp>) -> User {
    User {
        create_time: user.created,
        description: user.description,
        enabled: user.enabled,
        id: user.id,
        locked_until,
        name: user.name,
        need_change_password: user.must_change,
        roles: roles_shown(user.roles),
        update_time: user.changed,
    }
}

/// Roles as they are told.
pub(super) fn roles_shown(roles: Vec<UserRole>) -> Vec<RoleOfUser> {
    let role = |role: UserRole| RoleOfUser {
        cluster_ids: role.clusters.map(|ids| ids.into_iter().collect()),
        name: role.name,
    };
    roles.into_iter().map(role).collect()
}

fn missing(id: i64) -> ApiError {
    let args = [Thing::UserKind.into(), Arg::Text(id.to_string())];
    Refusal::about(Code::Com10002, args).field("userId").into()
}

pub(super) fn failed(error: UsersError) -> ApiError {
    ApiError::internal(error)
}
