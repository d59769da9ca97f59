//! Routes as they are declared: method, path, who may use it, handler. There is no way to declare one without saying who may
//! use it, and no other place that says so: what is checked and what is documented are both made from this.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    handler::Handler,
    http::Method,
    middleware,
    routing::{MethodRouter, delete, get, patch, post, put},
};

use crate::{
    app::App,
    audit::{self, Audited},
    auth::access::{Access, authorize},
    openapi::described::{Described, Operation, operation},
};

/// A route, but for its handler.
#[derive(Debug, Clone)]
pub struct Route {
    /// GET stands for HEAD as well.
    pub method: Method,
    /// With names in braces for what varies.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// What its handler takes and answers.
    pub operation: fn() -> Operation,
}

/// Some routes.
#[derive(Default)]
pub struct Routes(Vec<(Route, MethodRouter<Arc<App>>)>);

macro_rules! methods {
    ($($function:ident $method:ident),*) => {
        $(
            /// Adds a route of this method.
            #[must_use]
            pub fn $function<H, T>(self, path: &str, access: Access, handler: H) -> Self
            where
                H: Handler<T, Arc<App>> + Described<T>,
                T: 'static,
            {
                self.on(Method::$method, path, access, operation(&handler), $function(handler))
            }
        )*
    };
}

impl Routes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

    /// Adds a route with layers of its own.
    #[must_use]
    pub fn on(
        mut self,
        method: Method,
        path: &str,
        access: Access,
        operation: fn() -> Operation,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        let route = Route {
            method,
            path: path.to_owned(),
            access,
            operation,
        };
        self.0.push((route, handler));
        self
    }

    /// Adds others.
    #[must_use]
    pub fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Adds others below a path.
    #[must_use]
    pub fn nest(mut self, prefix: &str, others: Self) -> Self {
        let below = others.0.into_iter().map(|(mut route, handler)| {
            route.path = match route.path.as_str() {
                "/" => prefix.to_owned(),
                path => format!("{prefix}{path}"),
            };
            (route, handler)
        });
        self.0.extend(below);
        self
    }

    /// What is declared.
    pub fn declared(&self) -> Vec<Route> {
        self.0.iter().map(|(route, _)| route.clone()).collect()
    }

    /// Those whose access fits, each behind a layer that checks it, and those that change something behind one that writes
    /// down what they did.
    pub fn router(&mut self, app: &Arc<App>, fits: impl Fn(Access) -> bool) -> Router<Arc<App>> {
        let (these, others) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(route, _)| fits(route.access));
        self.0 = others;
        let these: Vec<_> = these;
        let looks: BTreeMap<String, MethodRouter> = these
            .iter()
            .filter(|(route, _)| route.method == Method::GET)
            .map(|(route, handler)| (route.path.clone(), handler.clone().with_state(Arc::clone(app))))
            .collect();
        these.into_iter().fold(Router::new(), |router, (route, handler)| {
            let check = middleware::from_fn_with_state((Arc::clone(app), route.access), authorize);
            let mut handler = handler.route_layer(check);
            if route.method != Method::GET && route.access != Access::Servers {
                let audited = Audited {
                    app: Arc::clone(app),
                    right: route.access.right(),
                    look: looks.get(&route.path).cloned(),
                };
                handler = handler.route_layer(middleware::from_fn_with_state(audited, audit::record));
            }
            router.route(&route.path, handler)
        })
    }
}

/// No routes at all: one answer to whatever is asked, for an address that gives nothing else.
pub fn one_answer<H, T>(answer: H) -> Router
where
    H: Handler<T, ()>,
    T: 'static,
{
    Router::new().fallback(answer)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
            .collect()
    }

    #[test]
    fn nobody_adds_a_route_in_another_way() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let sources = sources(&dir);
        assert!(sources.len() > 50, "the sources are elsewhere");
        for path in sources.iter().filter(|path| !path.ends_with("src/routes.rs")) {
            let text = std::fs::read_to_string(path).unwrap();
            let served = text.split("#[cfg(test)]").next().unwrap();
            for other_way in [
                ".route(",
                ".route_service(",
                ".nest_service(",
                "Router::new(",
                "fallback_service",
            ] {
                assert!(!served.contains(other_way), "{}: {other_way}", path.display());
            }
        }
    }
}
