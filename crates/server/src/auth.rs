//! Who is calling: HTTP Basic against the users of the state database, a signature by one of their access keys, or the
//! session of a browser that has logged in ([`session`]).
//!
//! A signed request ([`signed`]) costs no argon2. A password is checked with argon2id once and then remembered for a while
//! ([`memory`]); one argon2 runs at a time, and whoever guesses is slowed down ([`throttle`]), and locked out for a while in
//! the end, on all servers. Credentials that were right before are never made to wait, so guessing somebody's password does
//! not lock that somebody out.
//!
//! The user is read from the database for each request, so that what is changed of a user, a role or a key counts at once,
//! on all servers. What a user may do then is told by the roles ([`granted`]), and what a route takes by the route
//! ([`access`]).

pub mod access;
pub mod basic;
pub mod first_user;
pub mod granted;
pub mod memory;
pub mod password;
pub mod rate;
pub mod right;
pub mod role;
pub mod rules;
pub mod session;
pub mod signature;
pub mod signed;
pub mod throttle;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use obfleet_fleet::Actor;
use obfleet_store::{
    access_keys::AccessKeysError,
    sessions::{Sessions, SessionsError},
    users::{User, Users, UsersError, failures::LockRule},
};
use obfleet_wire::{Code, Refusal, time::Timestamp};
use tokio::sync::Semaphore;

use self::{
    basic::Credentials,
    granted::Granted,
    memory::{Memory, Recall},
    rate::Rates,
    session::SessionKey,
    signature::Claim,
    signed::SignedRequests,
    throttle::Throttle,
};
use crate::http::{ApiError, Fault, error::seconds, fault::LoginFault, language::Language};

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// User or password is wrong.
    #[error("user or password is wrong, {left} tries are left")]
    Wrong {
        /// Tries until the name is locked.
        left: i64,
    },
    /// The name is locked.
    #[error("the user name is locked for {0:?}")]
    Locked(Duration),
    /// The user is disabled.
    #[error("the user is disabled")]
    Disabled,
    /// Too many failures.
    #[error("there were too many failures, wait for {0:?}")]
    Wait(Duration),
    /// The users cannot be read.
    #[error("the users cannot be read")]
    Users(#[from] UsersError),
    /// The server is going down.
    #[error("the server is stopping")]
    Stopping,
}

/// Ten failures in a row lock a name for a quarter of an hour. Between them are waits, so this takes at least half a minute.
pub const LOCK_RULE: LockRule = LockRule {
    failures: 10,
    time: Duration::from_secs(15 * 60),
};

/// Checks credentials. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    users: Users,
    signed: SignedRequests,
    sessions: Sessions,
    memory: Memory,
    throttle: Mutex<Throttle>,
    rates: Rates,
    /// One argon2 at a time: each takes 19 MiB and a whole core.
    gate: Arc<Semaphore>,
    verifications: AtomicU64,
    /// Verified in the place of a user who does not exist, so that the answer takes as long.
    nobody: String,
}

impl Authenticator {
    /// An authenticator for these users, by password, signature or session; each may make so many requests a minute, or any
    /// number if that is 0.
    pub fn new(users: Users, signed: SignedRequests, sessions: Sessions, requests_per_minute: u32) -> Self {
        let inner = Inner {
            users,
            signed,
            sessions,
            memory: Memory::default(),
            throttle: Mutex::default(),
            rates: Rates::new(requests_per_minute),
            gate: Arc::new(Semaphore::new(1)),
            verifications: AtomicU64::new(0),
            nobody: password::unmatched(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Forgets the signatures that nobody could repeat any more.
    pub async fn forget_signatures(&self) -> Result<u64, AccessKeysError> {
        self.inner.signed.forget().await
    }

    /// Number of argon2 runs so far.
    pub fn verifications(&self) -> u64 {
        self.inner.verifications.load(Ordering::Relaxed)
    }

    /// The user behind the credentials.
    pub async fn authenticate(&self, credentials: Credentials, address: IpAddr) -> Result<User, AuthError> {
        let user = self.inner.users.find(&credentials.user).await?;
        if self.inner.admit(user.as_ref(), &credentials, address)? == Recall::Fresh {
            return let_in(user);
        }
        let turn = Arc::clone(&self.inner.gate)
            .acquire_owned()
            .await
            .map_err(|_| AuthError::Stopping)?;
        // Whoever was before us in the queue may have had the same credentials, or have failed once too often.
        let recall = self.inner.admit(user.as_ref(), &credentials, address)?;
        if recall == Recall::Fresh {
            return let_in(user);
        }
        let inner = Arc::clone(&self.inner);
        // The turn and the outcome's record belong to the task: a caller who hangs up changes neither.
        let verifying = tokio::spawn(async move {
            let _turn = turn;
            inner.verify(user, credentials, address, recall).await
        });
        verifying.await.map_err(|_| AuthError::Stopping)?
    }

    /// Forgets the failed logins that are too old to count.
    pub async fn forget_failures(&self) -> Result<u64, UsersError> {
        self.inner.users.forget_failures(LOCK_RULE, Timestamp::now()).await
    }

    /// Forgets the sessions that are over.
    pub async fn forget_sessions(&self) -> Result<u64, SessionsError> {
        self.inner.sessions.forget(session::RULE, Timestamp::now()).await
    }

    /// Forgets what this server holds against a name.
    pub fn unlocked(&self, name: &str) {
        self.inner.throttle().forgive(name);
    }
}

/// A user whose password is right.
fn let_in(user: Option<User>) -> Result<User, AuthError> {
    match user {
        Some(user) if user.enabled => Ok(user),
        Some(_) => Err(AuthError::Disabled),
        None => Err(AuthError::Stopping),
    }
}

impl Inner {
    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the credentials; who is not known has to wait out the failures.
    fn admit(&self, user: Option<&User>, credentials: &Credentials, address: IpAddr) -> Result<Recall, AuthError> {
        let now = Instant::now();
        let recall = user.map_or(Recall::Nothing, |user| {
            self.memory
                .recall(self.memory.fingerprint(credentials), &user.password_hash, now)
        });
        if recall == Recall::Nothing
            && let Some(wait) = self.throttle().wait(&credentials.user, address, now)
        {
            return Err(AuthError::Wait(wait));
        }
        Ok(recall)
    }

    async fn verify(
        self: Arc<Self>,
        user: Option<User>,
        credentials: Credentials,
        address: IpAddr,
        recall: Recall,
    ) -> Result<User, AuthError> {
        let now = Timestamp::now();
        // Credentials that were right before are no guesses.
        if recall == Recall::Nothing
            && let Some(until) = self.users.locked_until(&credentials.user, now).await?
        {
            let millis = u64::try_from(until.millis() - now.millis()).unwrap_or_default();
            return Err(AuthError::Locked(Duration::from_millis(millis)));
        }
        let name = credentials.user.clone();
        let inner = Arc::clone(&self);
        let verify = move || inner.compare(user, &credentials, address);
        let verified = tokio::task::spawn_blocking(verify).await;
        match verified.map_err(|_| AuthError::Stopping)? {
            Some((user, is_first)) => {
                if is_first {
                    self.users.forgive(&name).await?;
                }
                let_in(Some(user))
            }
            None => {
                let failures = self.users.login_failed(&name, LOCK_RULE, now).await?;
                let left = (LOCK_RULE.failures - failures).max(0);
                Err(AuthError::Wrong { left })
            }
        }
    }

    /// The user if the password is right, and whether there were failures before. Takes as long for nobody.
    fn compare(&self, user: Option<User>, credentials: &Credentials, address: IpAddr) -> Option<(User, bool)> {
        let hash = user.as_ref().map_or(&self.nobody, |user| &user.password_hash);
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let right = password::verify(&credentials.password, hash);
        match user.filter(|_| right) {
            Some(user) => {
                let fingerprint = self.memory.fingerprint(credentials);
                let is_first = self.memory.recall(fingerprint, &user.password_hash, Instant::now()) == Recall::Nothing;
                self.memory.remember(fingerprint, &user.password_hash, Instant::now());
                self.throttle().succeeded(&credentials.user, address);
                Some((user, is_first))
            }
            None => {
                self.throttle().failed(&credentials.user, address, Instant::now());
                None
            }
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Wrong { left } => Refusal::new(Code::Iam10004, [left]).into(),
            AuthError::Locked(wait) => Self::from(Refusal::new(Code::Iam10003, [seconds(wait)])).retry_after(wait),
            AuthError::Disabled => Self::plain(Code::Iam10001),
            AuthError::Wait(wait) => Self::from(Refusal::new(Code::Iam10007, [seconds(wait)])).retry_after(wait),
            AuthError::Users(_) | AuthError::Stopping => Self::internal(error),
        }
    }
}

/// Layer: lets only known users pass, and tells the handlers who it is.
pub async fn require_login(
    State(authenticator): State<Authenticator>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (who, request) = log_in(&authenticator, peer, request).await?;
    Ok(run_for(&authenticator, who, request, next).await)
}

/// Runs the request, unless its user has had enough of them for now.
async fn run_for(authenticator: &Authenticator, who: Who, mut request: Request, next: Next) -> Response {
    let Some(allowance) = authenticator.inner.rates.take(who.0.id, Instant::now()) else {
        request.extensions_mut().insert(who);
        return next.run(request).await;
    };
    let mut response = match allowance.remaining {
        Some(_) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        None => ApiError::fault(Fault::TooManyRequests(allowance.limit))
            .retry_after(allowance.reset)
            .into_response(),
    };
    allowance.tell(response.headers_mut());
    response
}

/// Layer: like [`require_login`], but lets in as well who asks from this machine itself.
pub async fn require_login_unless_local(
    State(authenticator): State<Authenticator>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if is_local(peer, request.headers()) {
        return Ok(next.run(request).await);
    }
    let (who, request) = log_in(&authenticator, peer, request).await?;
    Ok(run_for(&authenticator, who, request, next).await)
}

/// What a proxy tells of those it speaks for. A request with one of these comes from somewhere else.
const PASSED_ON: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback() && !PASSED_ON.iter().any(|name| headers.contains_key(*name))
}

/// Who sends the request, and the request.
async fn log_in(authenticator: &Authenticator, peer: SocketAddr, request: Request) -> Result<(Who, Request), ApiError> {
    let (user, request) = match Claim::of(request.headers()) {
        None if request.headers().contains_key(AUTHORIZATION) => {
            (by_password(authenticator, peer, request.headers()).await?, request)
        }
        None => return by_session(authenticator, request).await,
        Some(claim) => {
            let claim = claim.map_err(|_| ApiError::fault(Fault::Login(LoginFault::Malformed)))?;
            let key = claim.access_key.clone();
            let checked = authenticator.inner.signed.check(claim, request).await;
            checked.inspect_err(|error| {
                let reason = error.body(Language::English).message;
                tracing::warn!(key, address = %peer.ip(), reason, "a signed request was refused");
            })?
        }
    };
    Ok((Who::of(user, None), request))
}

async fn by_password(authenticator: &Authenticator, peer: SocketAddr, headers: &HeaderMap) -> Result<User, ApiError> {
    let credentials = Credentials::of(headers).ok_or_else(nobody)?;
    let name = credentials.user.clone();
    let user = authenticator.authenticate(credentials, peer.ip()).await;
    Ok(user.inspect_err(|error| {
        tracing::warn!(user = name, address = %peer.ip(), "login refused: {error}");
    })?)
}

async fn by_session(authenticator: &Authenticator, request: Request) -> Result<(Who, Request), ApiError> {
    let key = SessionKey::of(request.headers()).ok_or_else(nobody)?;
    let sessions = &authenticator.inner.sessions;
    let (user, session) = session::check(sessions, &key, request.method(), request.headers()).await?;
    Ok((Who::of(user, Some(session.id)), request))
}

fn nobody() -> ApiError {
    ApiError::fault(Fault::Login(LoginFault::Nobody))
}

/// The caller, in a handler behind [`require_login`].
#[derive(Debug, Clone)]
pub struct Who(pub Actor, pub Arc<Login>);

/// What is known of a caller besides the name.
#[derive(Debug, Clone)]
pub struct Login {
    /// What the user may do.
    pub granted: Granted,
    /// Whether the password is to be changed before anything else.
    pub must_change: bool,
    /// The browser's session, if that is what the caller is known by.
    pub session: Option<String>,
}

impl Who {
    /// This user, known by a browser's session or by something else.
    pub fn of(user: User, session: Option<String>) -> Self {
        let login = Login {
            granted: Granted::of(&user.roles),
            must_change: user.must_change,
            session,
        };
        let actor = Actor {
            id: user.id,
            name: user.name,
        };
        Self(actor, Arc::new(login))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(nobody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_who_asks_from_this_machine_for_itself() {
        let none = HeaderMap::new();
        for (peer, local) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("10.0.0.1:1", false),
            ("[::ffff:10.0.0.1]:1", false),
        ] {
            assert_eq!(is_local(peer.parse().unwrap(), &none), local, "{peer}");
        }
        for name in PASSED_ON {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), "10.0.0.1".parse().unwrap())]);
            assert!(!is_local("127.0.0.1:1".parse().unwrap(), &headers), "{name}");
        }
    }
}
