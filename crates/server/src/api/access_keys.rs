//! The caller's own access keys: `/api/v2/iam/accessKeys…`. A key has exactly its user's roles, so managing them takes none.

use axum::extract::State;
use obfleet_store::access_keys::{AccessKey as Stored, AccessKeysError};
use obfleet_wire::{
    Code, Refusal,
    envelope::Paged,
    iam::{AccessKey, AccessKeyStatus, ChangeAccessKey, CreatedAccessKey, NewAccessKey},
    reason::{Arg, Reason, Thing},
    time::Timestamp,
};
use rand::Rng as _;

use crate::{
    app::{App, AppState},
    auth::{Who, access::Access},
    http::{ApiError, ApiResult, Data, Entry, Json, ListQuery, NoData, OptionalJson, PathIds},
    routes::Routes,
};

/// Keys of one user: enough to change them one after another on several clients.
const MOST: usize = 5;
const ACCESS_KEY_LENGTH: usize = 16;
const LONGEST_DESCRIPTION: usize = 255;
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Below `/api/v2/iam`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/accessKeys", Access::Own, list)
        .post("/accessKeys", Access::Own, create)
        .patch("/accessKeys/{accessKey}", Access::Own, change)
        .delete("/accessKeys/{accessKey}", Access::Own, remove)
        .post("/accessKeys/{accessKey}/rotate", Access::Own, rotate)
}

/// Lists the caller's keys.
pub async fn list(
    State(app): AppState,
    Who(actor, _): Who,
    query: ListQuery,
) -> ApiResult<Data<Paged<Entry<AccessKey>>>> {
    let keys = app.access_keys.of(actor.id).await.map_err(failed)?;
    let keys: Vec<AccessKey> = keys.into_iter().map(shown).collect();
    Ok(Data(query.page(keys)?))
}

/// Makes a key. Its secret is in this answer and nowhere else.
pub async fn create(
    State(app): AppState,
    Who(actor, _): Who,
    OptionalJson(body): OptionalJson<NewAccessKey>,
) -> ApiResult<Data<CreatedAccessKey>> {
    let length = body.description.chars().count();
    if length > LONGEST_DESCRIPTION || body.description.chars().any(char::is_control) {
        let (least, most) = (0, LONGEST_DESCRIPTION);
        return Err(Refusal::invalid("description", Reason::TextForm { least, most }).into());
    }
    make(&app, actor.id, body.description).await
}

/// Lets a key in, or no longer.
pub async fn change(
    State(app): AppState,
    Who(actor, _): Who,
    path: PathIds,
    Json(body): Json<ChangeAccessKey>,
) -> ApiResult<Data<AccessKey>> {
    let name = path.text("accessKey");
    let enabled = body.status == AccessKeyStatus::Enabled;
    if !app
        .access_keys
        .set_enabled(actor.id, name, enabled)
        .await
        .map_err(failed)?
    {
        return Err(missing(name));
    }
    Ok(Data(shown(find(&app, actor.id, name).await?)))
}

/// Makes a key to take another one's place. The old one lets in until it is disabled or deleted.
pub async fn rotate(State(app): AppState, Who(actor, _): Who, path: PathIds) -> ApiResult<Data<CreatedAccessKey>> {
    let old = find(&app, actor.id, path.text("accessKey")).await?;
    make(&app, actor.id, old.description).await
}

/// Deletes a key.
pub async fn remove(State(app): AppState, Who(actor, _): Who, path: PathIds) -> ApiResult<NoData> {
    let name = path.text("accessKey");
    match app.access_keys.delete(actor.id, name).await.map_err(failed)? {
        true => Ok(NoData),
        false => Err(missing(name)),
    }
}

async fn make(app: &App, user_id: i64, description: String) -> ApiResult<Data<CreatedAccessKey>> {
    let secret_key = hex::encode(rand::random::<[u8; 16]>());
    let key = Stored {
        access_key: name(),
        user_id,
        secret: app.sealer.seal(&secret_key).map_err(ApiError::internal)?,
        enabled: true,
        description,
        created: Timestamp::now(),
    };
    if !app.access_keys.insert(&key, MOST).await.map_err(failed)? {
        return Err(Refusal::new(Code::Iam10018, [MOST]).into());
    }
    tracing::info!(user = user_id, key = key.access_key, "an access key was made");
    Ok(Data(CreatedAccessKey {
        access_key: key.access_key,
        create_time: key.created,
        description: key.description,
        secret_key,
        status: AccessKeyStatus::Enabled,
    }))
}

fn name() -> String {
    let mut rng = rand::rng();
    let letter = |_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]);
    (0..ACCESS_KEY_LENGTH).map(letter).collect()
}

async fn find(app: &App, user_id: i64, name: &str) -> ApiResult<Stored> {
    let keys = app.access_keys.of(user_id).await.map_err(failed)?;
    keys.into_iter()
        .find(|key| key.access_key == name)
        .ok_or_else(|| missing(name))
}

fn shown(key: Stored) -> AccessKey {
    AccessKey {
        access_key: key.access_key,
        create_time: key.created,
        description: key.description,
        status: if key.enabled {
            AccessKeyStatus::Enabled
        } else {
            AccessKeyStatus::Disabled
        },
    }
}

fn missing(name: &str) -> ApiError {
    let args = [Thing::AccessKeyKind.into(), Arg::Text(name.to_owned())];
    Refusal::about(Code::Com10002, args).field("accessKey").into()
}

fn failed(error: AccessKeysError) -> ApiError {
    ApiError::internal(error)
}
