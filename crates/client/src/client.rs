//! Sends requests and reads envelopes.

use std::time::{Duration, SystemTime};

use reqwest::{
    Certificate, Method, Url,
    header::{ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, DATE},
};
use serde_json::Value;

use crate::sign::{self, Draft};

/// Longest to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";
/// Makes each request another one: a change is made once by one signature.
const NONCE: &str = "x-ocp-nonce";

/// Who asks. Has no `Debug`: a secret must not reach the log.
#[derive(Clone)]
pub enum Credentials {
    /// With an access key.
    Key {
        /// Names it.
        access_key: String,
        /// What requests are signed with.
        secret_key: String,
    },
    /// With a password.
    Password {
        /// Login name.
        user: String,
        /// In clear text.
        password: String,
    },
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's URL is none.
    #[error("'{0}' is no URL of a server; write it as http://host:port")]
    Url(String),
    /// What should be the authority of its certificate is none.
    #[error("the authority given for {0} is no certificate in PEM; give --ca the one that signed the server's")]
    Authority(String),
    /// The server cannot be reached.
    #[error("{url} does not answer; check the URL, and that a server runs there")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It answers something else.
    #[error("{url} answers {status} without OCP's envelope; check that an obfleet server is there")]
    Envelope {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// It refuses.
    #[error("{message} ({code})")]
    Refused {
        /// OCP's code, `IAM11000`.
        code: String,
        /// What the server says.
        message: String,
        /// The HTTP status.
        status: u16,
    },
}

/// Asks one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    credentials: Credentials,
    language: String,
}

impl Client {
    /// A client of the server at this URL, whose certificate is from the authority `ca` (PEM) or, without, from one the
    /// system knows; sentences come in this language, if the server has it.
    ///
    /// # Errors
    /// When the URL or the authority is none.
    pub fn new(url: &str, ca: Option<&str>, credentials: Credentials, language: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        let parsed: Url = url.parse().map_err(|_| wrong())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong());
        }
        // Whoever was first has chosen the same.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut http = reqwest::Client::builder().timeout(PATIENCE);
        if let Some(ca) = ca {
            let wrong = || ClientError::Authority(url.to_owned());
            let known = Certificate::from_pem_bundle(ca.as_bytes()).map_err(|_| wrong())?;
            if known.is_empty() {
                return Err(wrong());
            }
            http = http.tls_certs_only(known);
        }
        let http = http.build();
        Ok(Self {
            http: http.map_err(|source| ClientError::Unreachable {
                url: url.to_owned(),
                source,
            })?,
            url: parsed,
            credentials,
            language: language.to_owned(),
        })
    }

    /// Asks; `data` of the answer, null when there is none.
    ///
    /// # Errors
    /// When the server cannot be reached, is none, or refuses.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let base = self.url.path().trim_end_matches('/');
        let target = match parameters {
            [] => format!("{base}{path}"),
            some => format!("{base}{path}?{}", sign::query(some)),
        };
        let host = match (self.url.host_str().unwrap_or_default(), self.url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let url = format!("{}://{host}{target}", self.url.scheme());
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let nonce = hex::encode(rand::random::<[u8; 8]>());
        let date = httpdate::fmt_http_date(SystemTime::now());
        let authorized = |request: reqwest::RequestBuilder| match &self.credentials {
            Credentials::Password { user, password } => request.basic_auth(user, Some(password)),
            Credentials::Key { access_key, secret_key } => {
                let draft = Draft {
                    method: method.as_str(),
                    body: &body,
                    content_type: JSON,
                    date: &date,
                    host: &host,
                    headers: &[(NONCE, &nonce)],
                    target: &target,
                };
                request
                    .header(AUTHORIZATION, draft.authorization(access_key, secret_key))
                    .header(NONCE, &nonce)
            }
        };
        let request = self.http.request(method.clone(), &url);
        let request = request
            .header(CONTENT_TYPE, JSON)
            .header(DATE, &date)
            .header(ACCEPT_LANGUAGE, &self.language);
        let request = authorized(request).body(body.clone());
        let unreachable = |source| ClientError::Unreachable {
            url: url.clone(),
            source,
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(unreachable)?;
        answer(&text, status).ok_or(ClientError::Envelope { url, status })?
    }
}

/// `None` when it is no envelope.
fn answer(text: &str, status: u16) -> Option<Result<Value, ClientError>> {
    let mut envelope: Value = serde_json::from_str(text).ok()?;
    match envelope.get("successful")?.as_bool()? {
        true => Some(Ok(envelope["data"].take())),
        false => {
            let error = envelope.get("error")?;
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            Some(Err(ClientError::Refused {
                code: text("debugMessage"),
                message: text("message"),
                status,
            }))
        }
    }
}
