//! What a user may do: the rights of all roles the user has, each for everything or for some proxy clusters.

use std::collections::{BTreeMap, BTreeSet};

use axum::{extract::FromRequestParts, http::request::Parts};
use obfleet_store::users::UserRole;

use super::{right::Right, role};
use crate::http::ApiError;

/// How far a right goes. In a handler of a filtered route: how much of what there is may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// These proxy clusters, and what is theirs.
    Clusters(BTreeSet<i64>),
}

impl Scope {
    /// Whether a proxy cluster is within.
    pub fn holds(&self, cluster: i64) -> bool {
        match self {
            Self::All => true,
            Self::Clusters(clusters) => clusters.contains(&cluster),
        }
    }

    /// The clusters, unless it is everything.
    pub fn clusters(&self) -> Option<&BTreeSet<i64>> {
        match self {
            Self::All => None,
            Self::Clusters(clusters) => Some(clusters),
        }
    }

    fn extend(&mut self, more: Self) {
        match (&mut *self, more) {
            (Self::All, _) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Clusters(clusters), Self::Clusters(more)) => clusters.extend(more),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Scope {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let scope = parts.extensions.get().cloned();
        scope.ok_or_else(|| ApiError::internal("the route's right has no scope"))
    }
}

/// The rights of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted(BTreeMap<Right, Scope>);

impl Granted {
    /// The rights of these roles. A role that is not there any more has none.
    pub fn of(roles: &[UserRole]) -> Self {
        let mut granted: BTreeMap<Right, Scope> = BTreeMap::new();
        for of_user in roles {
            let scope = match &of_user.clusters {
                None => Scope::All,
                Some(clusters) => Scope::Clusters(clusters.clone()),
            };
            for right in rights(of_user) {
                match granted.get_mut(&right) {
                    Some(known) => known.extend(scope.clone()),
                    None => drop(granted.insert(right, scope.clone())),
                }
            }
        }
        Self(granted)
    }

    /// How far a right goes, if there is one.
    pub fn scope(&self, right: Right) -> Option<&Scope> {
        self.0.get(&right)
    }

    /// All of them.
    pub fn rights(&self) -> impl Iterator<Item = (Right, &Scope)> {
        self.0.iter().map(|(right, scope)| (*right, scope))
    }
}

fn rights(of_user: &UserRole) -> Vec<Right> {
    match role::built_in(&of_user.name) {
        Some(role) => role.rights.to_vec(),
        // Users are managed by ADMIN alone, whatever the database says.
        None => of_user
            .rights
            .iter()
            .filter_map(|name| Right::named(name))
            .filter(|right| *right != Right::UserManage)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, clusters: Option<&[i64]>, rights: &[&str]) -> UserRole {
        UserRole {
            name: name.to_owned(),
            clusters: clusters.map(|ids| ids.iter().copied().collect()),
            rights: rights.iter().map(|right| (*right).to_owned()).collect(),
        }
    }

    #[test]
    fn rights_add_up_with_their_scopes() {
        let granted = Granted::of(&[
            role("OBPROXY_MANAGER", Some(&[1]), &[]),
            role("OBPROXY_VIEWER", Some(&[2]), &[]),
            role("TASK_VIEWER", None, &[]),
        ]);
        let some = |ids: &[i64]| Some(Scope::Clusters(ids.iter().copied().collect()));
        assert_eq!(granted.scope(Right::ObproxyView).cloned(), some(&[1, 2]));
        assert_eq!(granted.scope(Right::ObproxyManage).cloned(), some(&[1]));
        assert_eq!(granted.scope(Right::TaskView), Some(&Scope::All));
        assert_eq!(granted.scope(Right::TaskManage), None);
        assert_eq!(
            Granted::of(&[role("ADMIN", None, &[])]).rights().count(),
            Right::ALL.len()
        );
    }

    #[test]
    fn a_custom_role_is_what_it_is_defined_to_be_and_never_makes_users() {
        let granted = Granted::of(&[
            role("NIGHT_SHIFT", None, &["task:manage", "user:manage", "gone:view"]),
            // Its name is OCP's, and so is what it means.
            role("HOST_VIEWER", None, &["host:manage"]),
            role("DELETED", None, &[]),
        ]);
        let rights: Vec<Right> = granted.rights().map(|(right, _)| right).collect();
        assert_eq!(rights, [Right::TaskManage, Right::HostView]);
    }
}
