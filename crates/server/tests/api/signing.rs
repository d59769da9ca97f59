//! A client that signs its requests, written from what is documented and not from the server's code.

use std::time::SystemTime;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sha1::Sha1;

use crate::support::{Api, Reply};

pub struct Key {
    pub access_key: String,
    pub secret: String,
}

impl Key {
    /// As the API answers it.
    pub fn of(created: &Value) -> Self {
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        Self {
            access_key: text("accessKey"),
            secret: text("secretKey"),
        }
    }

    pub async fn new(api: &Api) -> Self {
        Self::of(&api.post("/api/v2/iam/accessKeys", serde_json::json!({})).await.data())
    }
}

/// A request before it is signed; each part may be changed afterwards, to see what comes of it.
#[derive(Clone)]
pub struct Draft {
    pub method: Method,
    pub path: &'static str,
    /// As it is signed: sorted and encoded.
    pub query: &'static str,
    pub body: Vec<u8>,
    pub content_type: &'static str,
    pub date: SystemTime,
    pub host: String,
    /// Sorted.
    pub extra: Vec<(&'static str, &'static str)>,
}

impl Draft {
    pub fn new(api: &Api, method: Method, path: &'static str) -> Self {
        Self {
            method,
            path,
            query: "",
            body: Vec::new(),
            content_type: "application/json",
            date: SystemTime::now(),
            host: api.running.address.to_string(),
            extra: vec![("x-ocp-origin", "test")],
        }
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self
    }

    fn date(&self) -> String {
        httpdate::fmt_http_date(self.date)
    }

    fn target(&self) -> String {
        match self.query {
            "" => self.path.to_owned(),
            query => format!("{}?{query}", self.path),
        }
    }

    pub fn signature(&self, key: &Key) -> String {
        let md5 = match self.body.is_empty() {
            true => String::new(),
            false => hex::encode(Md5::digest(&self.body)).to_uppercase(),
        };
        let extra: Vec<String> = self
            .extra
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        let text = [
            self.method.as_str(),
            &md5,
            self.content_type,
            &self.date(),
            &self.host,
            &extra.join("\n"),
            &self.target(),
        ]
        .join("\n");
        let mut mac = Hmac::<Sha1>::new_from_slice(key.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
        format!("OCP-ACCESS-KEY-HMACSHA1 {}:{signature}", key.access_key)
    }

    /// The request with a signature, its own or one of another request.
    pub fn with(&self, api: &Api, signature: &str) -> RequestBuilder {
        let request = api
            .bare(self.method.clone(), &self.target())
            .header("Authorization", signature)
            .header("Content-Type", self.content_type)
            .header("Date", self.date())
            .header("Host", &self.host)
            .body(self.body.clone());
        self.extra
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
    }

    pub async fn send(&self, api: &Api, key: &Key) -> Reply {
        Reply::of(self.with(api, &self.signature(key))).await
    }
}
