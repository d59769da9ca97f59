//! Enrolment of host agents: `/api/v2/compute/agents…` (obfleet's own; OCP puts its agents on hosts by SSH).

use std::time::Duration;

use axum::extract::State;
use obfleet_agent::token::{Token, proof_holds, secret_digest};
use obfleet_fleet::inventory::{EnrolToken, Host, HostPlace, HostProfile, HostStage};
use obfleet_wire::{
    agent::{EnrolRequest, EnrolResponse},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    app::AppState,
    auth::{access::Access, right::Right},
    http::{ApiError, ApiResult, Data, Fault, Json, OptionalJson, Wanted, fault::EnrolmentFault},
    pki::{Authority, PkiError},
    routes::Routes,
};

/// Below `/api/v2/compute`. Enrolment itself is open.
pub fn routes() -> Routes {
    Routes::new()
        .post("/agents/tokens", Right::HostManage.whole(), create_token)
        .post("/agents/enrol", Access::Open, enrol)
}

const DEFAULT_VALID_SECONDS: u64 = 60 * 60;
const MAX_VALID_SECONDS: u64 = 24 * 60 * 60;
/// Longest label of a DNS name.
const MAX_UID: usize = 63;
/// Longest DNS name.
const MAX_ADDRESS: usize = 253;

/// Body of `POST /api/v2/compute/agents/tokens`; may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateToken {
    /// The IDC of the host it will bring, the one that is there from the beginning unless told.
    pub idc_id: Option<i64>,
    /// The type of that host, likewise.
    pub type_id: Option<i64>,
    /// Seconds the token works, an hour by default, a day at most.
    pub valid_seconds: Option<u64>,
}

/// A token, told this once.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    /// When it stops working.
    pub expire_time: Timestamp,
    /// The whole token, for the agent's command line.
    pub token: String,
    /// Its public part.
    pub token_id: String,
}

/// Makes a token with which one agent can enrol once.
pub async fn create_token(
    State(app): AppState,
    OptionalJson(body): OptionalJson<CreateToken>,
) -> ApiResult<Data<CreatedToken>> {
    let seconds = body.valid_seconds.unwrap_or(DEFAULT_VALID_SECONDS);
    if !(1..=MAX_VALID_SECONDS).contains(&seconds) {
        return Err(ApiError::value(
            "validSeconds",
            &seconds.to_string(),
            Wanted::UpTo(MAX_VALID_SECONDS),
        ));
    }
    let place = app.fleet.place(body.idc_id, body.type_id).await?;
    let (token, kept) = new_token(&app.authority, place, None, Duration::from_secs(seconds));
    app.fleet.keep_enrol_token(&kept).await?;
    Ok(Data(CreatedToken {
        expire_time: kept.expires,
        token: token.to_string(),
        token_id: token.id,
    }))
}

/// A token as it is given away, and as it is kept. It is for one host, if that is known.
pub fn new_token(
    authority: &Authority,
    place: HostPlace,
    host_id: Option<i64>,
    valid: Duration,
) -> (Token, EnrolToken) {
    let token = Token {
        id: hex::encode(rand::random::<[u8; 8]>()),
        secret: hex::encode(rand::random::<[u8; 32]>()),
        ca_sha256: authority.fingerprint().to_owned(),
    };
    let valid = i64::try_from(valid.as_millis()).unwrap_or_default();
    let kept = EnrolToken {
        id: token.id.clone(),
        key: secret_digest(&token.secret).to_vec(),
        expires: Timestamp(Timestamp::now().millis() + valid),
        place,
        host_id,
    };
    (token, kept)
}

/// Takes an agent in: checks the proof of its token, signs its certificate, and adds its host.
///
/// The token is used up last, in the transaction that adds the host, so a request that is refused does not cost it.
pub async fn enrol(State(app): AppState, Json(request): Json<EnrolRequest>) -> ApiResult<Data<EnrolResponse>> {
    let refused = |fault| ApiError::fault(Fault::Enrolment(fault));
    let token = app.fleet.enrol_token(&request.token_id).await?;
    let key: Option<[u8; 32]> = token.and_then(|token| token.key.try_into().ok());
    // An unknown token is answered as slowly as a wrong proof.
    let holds = proof_holds(&key.unwrap_or_default(), &request.csr_pem, &request.proof);
    if key.is_none() || !holds {
        return Err(refused(EnrolmentFault::Token));
    }
    if !is_label(&request.host.host_uid) {
        return Err(refused(EnrolmentFault::HostUid));
    }
    if !is_address(&request.address) {
        return Err(ApiError::value("address", &request.address, Wanted::Address));
    }
    let certificate = app
        .authority
        .agent_certificate(&request.csr_pem, &request.host.host_uid);
    let certificate_pem = certificate.map_err(|error| match error {
        PkiError::Request(_) => refused(EnrolmentFault::Csr),
        other => ApiError::internal(other),
    })?;
    let now = Timestamp::now();
    let host = Host {
        id: 0,
        facts: request.host,
        address: request.address,
        agent_port: request.port,
        agent_version: request.agent_version,
        online: true,
        reserved: false,
        profile: HostProfile::default(),
        stage: HostStage::Ready,
        bootstrap: None,
        deleted: false,
        created: now,
        updated: now,
    };
    let host_id = app
        .fleet
        .enrol(&request.token_id, &host)
        .await?
        .ok_or_else(|| refused(EnrolmentFault::Token))?;
    tracing::info!(host_id, name = host.facts.name, address = host.address, "host enrolled");
    Ok(Data(EnrolResponse {
        host_id,
        installation: app.installation.clone(),
        certificate_pem,
        ca_pem: app.authority.certificate_pem().to_owned(),
    }))
}

/// The uid becomes a label of a DNS name.
fn is_label(text: &str) -> bool {
    (1..=MAX_UID).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// An IP address or a host name.
fn is_address(text: &str) -> bool {
    (1..=MAX_ADDRESS).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
}
