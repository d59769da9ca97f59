//! What a client signs that was made from the documentation alone is let in, whatever is in it; and nothing else is.

use std::time::SystemTime;

use axum::http::{Request, header::AUTHORIZATION, request::Parts};
use md5::{Digest as _, Md5};
use obfleet_client::sign::{Draft, encoded, query};
use proptest::prelude::*;

use super::{Claim, Signed};

const SECRET: &str = "2fc0c299cc94c6be266f2ceece765d4d";

/// A request, owned.
#[derive(Debug, Clone)]
struct Sent {
    method: String,
    body: Vec<u8>,
    content_type: String,
    host: String,
    origin: String,
    path: String,
    parameters: Vec<(String, String)>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let parameters = proptest::collection::btree_map("[a-zA-Z_]{1,8}", any::<String>(), 0..5);
    (
        prop_oneof!["GET", "POST", "DELETE"],
        proptest::collection::vec(any::<u8>(), 0..40),
        prop_oneof!["", "application/json", "application/json;charset=utf-8"],
        "[a-z]{1,8}(:[1-9][0-9]{0,3})?",
        "[!-~]{0,12}",
        proptest::collection::vec("\\PC{1,8}", 1..4),
        parameters,
    )
        .prop_map(|(method, body, content_type, host, origin, path, parameters)| Sent {
            method,
            body,
            content_type,
            host,
            origin,
            path: path.iter().map(|part| format!("/{}", encoded(part))).collect(),
            parameters: parameters.into_iter().collect(),
        })
}

impl Sent {
    fn query(&self) -> String {
        let pairs: Vec<_> = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        query(&pairs)
    }

    fn target(&self) -> String {
        match self.query().as_str() {
            "" => self.path.clone(),
            query => format!("{}?{query}", self.path),
        }
    }

    fn signed(&self, date: &str) -> String {
        let draft = Draft {
            method: &self.method,
            body: &self.body,
            content_type: &self.content_type,
            date,
            host: &self.host,
            headers: &[("x-ocp-origin", &self.origin)],
            target: &self.target(),
        };
        draft.authorization("0123456789abcdef", SECRET)
    }

    fn parts(&self, date: &str, target: &str, authorization: &str) -> Parts {
        let mut request = Request::builder().method(self.method.as_str()).uri(target);
        if !self.content_type.is_empty() {
            request = request.header("content-type", &self.content_type);
        }
        let request = request.header("date", date).header("host", &self.host);
        let request = request
            .header("x-ocp-origin", &self.origin)
            .header(AUTHORIZATION, authorization);
        request.body(()).unwrap().into_parts().0
    }

    /// Whether it is let in as it came to `target` with a header that was made of something.
    fn is_let_in(&self, date: &str, target: &str, authorization: &str) -> bool {
        let parts = self.parts(date, target, authorization);
        let claim = Claim::of(&parts.headers).unwrap().unwrap();
        let signed = Signed::of(&parts, SystemTime::now()).unwrap();
        let md5 = match self.body.is_empty() {
            true => String::new(),
            false => hex::encode_upper(Md5::digest(&self.body)),
        };
        claim.is_of(&signed, &md5, SECRET).is_some()
    }
}

proptest! {
    #[test]
    fn what_a_client_signs_is_let_in_and_nothing_else(sent in sent(), other in sent()) {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let authorization = sent.signed(&date);
        prop_assert!(sent.is_let_in(&date, &sent.target(), &authorization));

        // However the query was written on the way: in another order, with spaces as +.
        let mut turned: Vec<String> = sent.query().split('&').map(|pair| pair.replace("%20", "+")).collect();
        turned.reverse();
        let turned = match turned.join("&").as_str() {
            "" => sent.path.clone(),
            query => format!("{}?{query}", sent.path),
        };
        prop_assert!(sent.is_let_in(&date, &turned, &authorization));

        // One part of another request is another request.
        let changed = [
            Sent { method: other.method.clone(), ..sent.clone() },
            Sent { body: other.body.clone(), ..sent.clone() },
            Sent { content_type: other.content_type.clone(), ..sent.clone() },
            Sent { host: other.host.clone(), ..sent.clone() },
            Sent { origin: other.origin.clone(), ..sent.clone() },
            Sent { path: other.path.clone(), ..sent.clone() },
            Sent { parameters: other.parameters.clone(), ..sent.clone() },
        ];
        for one in changed {
            let is_same = format!("{one:?}") == format!("{sent:?}");
            prop_assert_eq!(one.is_let_in(&date, &one.target(), &authorization), is_same, "{:?}", one);
        }
    }
}
