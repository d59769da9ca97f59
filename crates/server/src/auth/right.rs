//! What a user may be allowed to do. A right is for a part of the API: to look at it, or to change it.

use super::access::{Access, Reach};

macro_rules! rights {
    ($($(#[$doc:meta])* $right:ident $name:literal)*) => {
        /// A right. Roles are sets of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Right {
            $($(#[$doc])* $right,)*
        }

        impl Right {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$right),*];
            /// Their names, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The name it is known by.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$right => $name,)*
                }
            }

            /// The right of this name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$right),)*
                    _ => None,
                }
            }
        }
    };
}

rights! {
    /// Clusters, their proxies, parameters, links and figures.
    ObproxyView "obproxy:view"
    /// Changes of them.
    ObproxyManage "obproxy:manage"
    /// Tasks, their logs and their history.
    TaskView "task:view"
    /// What may be done about a task.
    TaskManage "task:manage"
    /// Packages and their files.
    PackageView "package:view"
    /// Changes of them.
    PackageManage "package:manage"
    /// Hosts, and where they are.
    HostView "host:view"
    /// Changes of them.
    HostManage "host:manage"
    /// Users and roles.
    UserView "user:view"
    /// Changes of them. Whoever may do this may do everything, so that no role but ADMIN has it.
    UserManage "user:manage"
    /// The servers themselves.
    SystemView "system:view"
    /// What was changed, and by whom.
    AuditView "audit:view"
}

impl Right {
    /// For a route about a proxy cluster whose id is this part of its path.
    pub const fn of_cluster(self, parameter: &'static str) -> Access {
        Access::Needs(self, Reach::Cluster(parameter))
    }

    /// For a route about a task whose id is this part of its path; the task's cluster counts.
    pub const fn of_task(self, parameter: &'static str) -> Access {
        Access::Needs(self, Reach::Task(parameter))
    }

    /// For a route that answers as much as the user may see: its handler asks for the [`Scope`](super::granted::Scope).
    pub const fn filtered(self) -> Access {
        Access::Needs(self, Reach::Filtered)
    }

    /// For a route about what all clusters have in common, and shows nothing of any of them.
    pub const fn shared(self) -> Access {
        Access::Needs(self, Reach::Shared)
    }

    /// For a route about more than single clusters: it takes a role for everything.
    pub const fn whole(self) -> Access {
        Access::Needs(self, Reach::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_found_by_their_names() {
        for (right, name) in Right::ALL.iter().zip(Right::NAMES) {
            assert_eq!((right.name(), Right::named(name)), (*name, Some(*right)));
        }
        assert_eq!(Right::named("obproxy"), None);
    }
}
