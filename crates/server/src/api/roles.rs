//! Roles: `/api/v2/iam/roles…`. Those that are there from the beginning have OCP's names and stay as they are; others are names
//! for sets of rights.

use axum::extract::State;
use obfleet_store::users::roles::{CustomRole, RoleDeleted};
use obfleet_wire::{
    Code, Refusal,
    envelope::Paged,
    iam::{ChangeRole, NewRole, Role, RoleKind},
    reason::{Arg, Reason, Thing},
    time::Timestamp,
};

use super::users::{check_description, failed};
use crate::{
    app::{App, AppState},
    auth::{
        Who,
        right::Right,
        role::{self, BuiltIn},
        rules,
    },
    http::{ApiError, ApiResult, Data, Entry, Json, ListQuery, NoData, PathIds},
    routes::Routes,
};

/// Below `/api/v2/iam`.
pub fn routes() -> Routes {
    let (view, manage) = (Right::UserView.whole(), Right::UserManage.whole());
    Routes::new()
        .get("/roles", view, list)
        .post("/roles", manage, create)
        .get("/roles/{roleName}", view, detail)
        .patch("/roles/{roleName}", manage, change)
        .delete("/roles/{roleName}", manage, remove)
}

/// Lists roles, by `keyword` in name or description; those that are there from the beginning come first.
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Entry<Role>>>> {
    let custom = app.users.custom_roles().await.map_err(failed)?;
    let mut roles: Vec<Role> = role::BUILT_IN.iter().map(of_system).collect();
    roles.extend(custom.into_iter().map(of_users));
    roles.retain(|role| query.mentions("keyword", &[&role.name, &role.description]));
    Ok(Data(query.page(roles)?))
}

/// Shows one role.
pub async fn detail(State(app): AppState, path: PathIds) -> ApiResult<Data<Role>> {
    let name = path.text("roleName");
    if let Some(role) = role::built_in(name) {
        return Ok(Data(of_system(role)));
    }
    Ok(Data(of_users(find(&app, name).await?)))
}

/// Adds a role.
pub async fn create(State(app): AppState, Who(who, _): Who, Json(body): Json<NewRole>) -> ApiResult<Data<Role>> {
    rules::role_name(&body.name)?;
    check_description(&body.description)?;
    let now = Timestamp::now();
    let role = CustomRole {
        rights: rights(body.rights)?,
        name: body.name,
        description: body.description,
        created: now,
        changed: now,
    };
    // In whatever case, so that nobody takes it for another.
    let is_system = role::built_in(&role.name.to_ascii_uppercase()).is_some();
    if is_system || !app.users.insert_role(&role).await.map_err(failed)? {
        let args = [Thing::RoleKind.into(), Arg::Text(role.name)];
        return Err(Refusal::about(Code::Com10006, args).field("name").into());
    }
    tracing::info!(by = who.name, role = role.name, "a role was made");
    Ok(Data(of_users(role)))
}

/// Changes what a role lets its users do.
pub async fn change(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    Json(body): Json<ChangeRole>,
) -> ApiResult<Data<Role>> {
    let name = path.text("roleName");
    if role::built_in(name).is_some() {
        return Err(Refusal::new(Code::Iam11009, [name]).into());
    }
    let mut role = find(&app, name).await?;
    if let Some(description) = body.description {
        check_description(&description)?;
        role.description = description;
    }
    if let Some(given) = body.rights {
        role.rights = rights(given)?;
    }
    role.changed = Timestamp::now();
    if !app.users.update_role(&role).await.map_err(failed)? {
        return Err(missing(name));
    }
    tracing::info!(by = who.name, role = role.name, "a role was changed");
    Ok(Data(of_users(role)))
}

/// Deletes a role that no user has.
pub async fn remove(State(app): AppState, Who(who, _): Who, path: PathIds) -> ApiResult<NoData> {
    let name = path.text("roleName");
    if role::built_in(name).is_some() {
        return Err(Refusal::new(Code::Iam11003, [name]).into());
    }
    match app.users.delete_role(name).await.map_err(failed)? {
        RoleDeleted::Gone => {
            tracing::info!(by = who.name, role = name, "a role was deleted");
            Ok(NoData)
        }
        RoleDeleted::Missing => Err(missing(name)),
        RoleDeleted::InUse(users) => {
            let args = [
                Thing::RoleKind.into(),
                Arg::Text(name.to_owned()),
                Thing::Users(users).into(),
            ];
            Err(Refusal::about(Code::Cmp07000, args).into())
        }
    }
}

/// The rights that are given, each once, in the order of all.
fn rights(given: Vec<String>) -> ApiResult<Vec<String>> {
    if given.is_empty() {
        return Err(Refusal::invalid("rights", Reason::Empty).into());
    }
    for (index, name) in given.iter().enumerate() {
        if Right::named(name).is_none_or(|right| right == Right::UserManage) {
            let refusal = Refusal::new(Code::Iam11002, [name]);
            return Err(refusal.field(format!("rights[{index}]")).into());
        }
    }
    let names = Right::NAMES
        .iter()
        .filter(|name| given.iter().any(|given| given == *name));
    Ok(names.map(|name| (*name).to_owned()).collect())
}

async fn find(app: &App, name: &str) -> ApiResult<CustomRole> {
    let roles = app.users.custom_roles().await.map_err(failed)?;
    roles
        .into_iter()
        .find(|role| role.name == name)
        .ok_or_else(|| missing(name))
}

fn of_system(role: &BuiltIn) -> Role {
    Role {
        create_time: None,
        description: String::new(),
        name: role.name.to_owned(),
        rights: role.rights.iter().map(|right| right.name().to_owned()).collect(),
        kind: RoleKind::System,
        update_time: None,
    }
}

fn of_users(role: CustomRole) -> Role {
    Role {
        create_time: Some(role.created),
        description: role.description,
        name: role.name,
        rights: role.rights,
        kind: RoleKind::Custom,
        update_time: Some(role.changed),
    }
}

fn missing(name: &str) -> ApiError {
    let args = [Thing::RoleKind.into(), Arg::Text(name.to_owned())];
    Refusal::about(Code::Com10002, args).field("roleName").into()
}
