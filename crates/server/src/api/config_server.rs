//! The config server: `GET /services?Action=…`, what CONFIG_URL proxies ask for. It is open, as proxies have no login, and
//! tells only what they need. Its answers have no envelope, and an HTTP status that says what their `Code` says.

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use obfleet_fleet::plan::{
    Snapshot,
    config_server::{self, Asked},
    ob::META_CLUSTER,
};
use obfleet_wire::config_server::{Answer, OneOrAll, VersionOnly};
use serde::Serialize;

use crate::{app::AppState, auth::access::Access, routes::Routes};

/// At the root.
pub fn routes() -> Routes {
    Routes::new().get("/services", Access::Open, answer)
}

/// A call's parameters, of which proxies repeat some.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, names: &[&str]) -> Option<&str> {
        let given = self.0.iter().rev();
        let mut given = given.filter(|(name, value)| !value.is_empty() && names.contains(&name.as_str()));
        given.next().map(|(_, value)| value.as_str())
    }

    fn number(&self, names: &[&str]) -> Result<Option<i64>, Refused> {
        let Some(text) = self.get(names) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Refused::Wrong(format!("{} '{text}' is no number", names[0])))
    }

    /// Which OceanBase cluster's; newer proxies say `ObCluster`, older ones `ObRegion`.
    fn asked(&self) -> Result<Asked<'_>, Refused> {
        let name = self.get(&["ObRegion", "ObCluster"]);
        let id = self.number(&["ObRegionId", "ObClusterId"])?;
        Ok(Asked {
            name: name.ok_or_else(|| Refused::Wrong("ObRegion is missing".to_owned()))?,
            id: id.filter(|id| *id != 0),
            all: self.number(&["version"])?.is_some_and(|version| version >= 2),
        })
    }
}

/// What is not told, and why.
enum Refused {
    /// The call is wrong.
    Wrong(String),
    /// There is none of that.
    Unknown(String),
}

/// One answer for each action.
async fn answer(State(app): AppState, Query(parameters): Query<Vec<(String, String)>>) -> Response {
    let backends = match app.fleet.snapshot().await {
        Ok(backends) => backends,
        Err(error) => {
            tracing::warn!(%error, "a proxy cannot be told its configuration");
            let refusal = Answer::<()>::refusal(500, "the state database does not answer, ask again");
            return (StatusCode::INTERNAL_SERVER_ERROR, Json(refusal)).into_response();
        }
    };
    answered(&backends, &Parameters(parameters)).unwrap_or_else(|refused| {
        let (status, message) = match refused {
            Refused::Wrong(message) => (StatusCode::BAD_REQUEST, message),
            Refused::Unknown(message) => (StatusCode::NOT_FOUND, message),
        };
        (status, Json(Answer::<()>::refusal(status.as_u16(), message))).into_response()
    })
}

fn answered(backends: &Snapshot, parameters: &Parameters) -> Result<Response, Refused> {
    match parameters.get(&["Action"]) {
        Some("GetObProxyConfig") => {
            let name = parameters.get(&["ObproxyClusterName"]);
            let name = name.ok_or_else(|| Refused::Wrong("ObproxyClusterName is missing".to_owned()))?;
            let cluster = config_server::cluster_named(backends, name);
            let cluster = cluster.ok_or_else(|| Refused::Unknown(format!("no CONFIG_URL cluster {name}")))?;
            let config = config_server::config(backends, cluster);
            let version_only = parameters.get(&["VersionOnly"]);
            if version_only.is_some_and(|only| only.eq_ignore_ascii_case("true")) {
                let version = config.version;
                return Ok(told(VersionOnly { version }));
            }
            Ok(told(config))
        }
        Some("ObRootServiceInfo") => {
            let asked = parameters.asked()?;
            let unknown = || Refused::Unknown(format!("no OceanBase cluster {}", asked.name));
            if asked.name == META_CLUSTER {
                let cluster = parameters.get(&["ObproxyClusterName"]).unwrap_or_default();
                let info = config_server::meta_root_service_info(backends, cluster).ok_or_else(unknown)?;
                return Ok(told(OneOrAll::One(info)));
            }
            config_server::root_service_info(backends, asked)
                .map(told)
                .ok_or_else(unknown)
        }
        Some("ObIDCRegionInfo") => {
            let asked = parameters.asked()?;
            let unknown = || Refused::Unknown(format!("no OceanBase cluster {}", asked.name));
            config_server::idc_region_info(backends, asked)
                .map(told)
                .ok_or_else(unknown)
        }
        Some("GetObProxy") => Err(Refused::Unknown("binaries are installed by agents".to_owned())),
        Some(other) => Err(Refused::Wrong(format!("no action {other}"))),
        None => Err(Refused::Wrong("Action is missing".to_owned())),
    }
}

fn told(data: impl Serialize) -> Response {
    Json(Answer::of(data)).into_response()
}
