//! Browsers log in and out: `/api/v2/loginKey`, `/api/v2/login`, `/api/v2/logout`.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderMap, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE},
    },
    response::{IntoResponse as _, Response},
};
use obfleet_store::sessions::Session;
use obfleet_wire::{
    Code, Refusal,
    iam::{LoggedIn, LoginKey},
    time::Timestamp,
};

use crate::{
    app::AppState,
    auth::{
        AuthError, Who,
        access::Access,
        basic::{Credentials, LONGEST_NAME},
        session::{self, SessionKey},
    },
    http::{ApiError, ApiResult, Data, Fault, NoData, body},
    routes::Routes,
};

const FORM: &str = "application/x-www-form-urlencoded";

/// Below `/api/v2`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/loginKey", Access::Open, login_key)
        .post("/login", Access::Open, login)
        .post("/logout", Access::Own, logout)
}

/// The key passwords are encrypted with: none, which tells clients to send them as they are.
pub async fn login_key() -> Data<LoginKey> {
    Data(LoginKey {
        public_key: String::new(),
    })
}

/// Logs a browser in: a form with `username` and `password`. It gets a new session, whatever it came with.
pub async fn login(
    State(app): AppState,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    request: Request,
) -> ApiResult<Response> {
    session::check_origin(&headers)?;
    let form = body::read(request, &()).await?;
    let credentials = read(&headers, &form)?;
    let name = credentials.user.clone();
    let user = app.authenticator.authenticate(credentials, peer.ip()).await;
    let user = user.map_err(|error| {
        tracing::warn!(user = name, address = %peer.ip(), "login refused: {error}");
        match error {
            AuthError::Wrong { left } => Refusal::new(Code::Iam10006, [left]).into(),
            error => ApiError::from(error),
        }
    })?;
    if let Some(old) = SessionKey::of(&headers) {
        app.sessions.end(&old.digest()).await.map_err(session::failed)?;
    }
    let (key, now) = (SessionKey::new(), Timestamp::now());
    let new = Session {
        id: key.digest(),
        user_id: user.id,
        created: now,
        seen: now,
    };
    if !app.sessions.begin(&new, session::RULE).await.map_err(session::failed)? {
        return Err(ApiError::plain(Code::Iam10001));
    }
    tracing::info!(user = user.name, address = %peer.ip(), "a browser has logged in");
    let answer = Data(LoggedIn {
        location: "/".to_owned(),
        need_change_password: user.must_change,
    });
    let mut answer = with_cookies(answer.into_response(), key.cookies(app.is_https));
    // For whoever writes down who has logged in.
    answer.extensions_mut().insert(Who::of(user, None));
    Ok(answer)
}

/// Logs the browser out. There is nothing to do for who is known by something else than a session.
pub async fn logout(State(app): AppState, Who(who, login): Who) -> ApiResult<Response> {
    if let Some(session) = &login.session {
        app.sessions.end(session).await.map_err(session::failed)?;
        tracing::info!(user = who.name, "a browser has logged out");
    }
    Ok(with_cookies(NoData.into_response(), session::no_cookies()))
}

fn with_cookies(mut response: Response, cookies: [HeaderValue; 2]) -> Response {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

fn read(headers: &HeaderMap, form: &[u8]) -> ApiResult<Credentials> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(FORM) {
        return Err(ApiError::fault(Fault::ContentType(FORM)));
    }
    let field = |name: &str| {
        let mut fields = form_urlencoded::parse(form).filter(|(field, _)| field == name);
        let value = fields.next().filter(|(_, value)| !value.is_empty());
        let value = value.ok_or_else(|| ApiError::fault(Fault::MissingMember(name.to_owned())))?;
        Ok::<_, ApiError>(value.1.into_owned())
    };
    let credentials = Credentials {
        user: field("username")?,
        password: field("password")?,
    };
    // It belongs to nobody, and there is no room for what came of it.
    match credentials.user.len() <= LONGEST_NAME {
        true => Ok(credentials),
        false => Err(ApiError::plain(Code::Iam10006)),
    }
}
