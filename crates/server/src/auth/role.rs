//! The roles that are there from the beginning, by OCP's names, as sets of rights. Others are in the database.

use super::right::Right;

/// May do everything.
pub const ADMIN: &str = "ADMIN";

/// A role that is there from the beginning.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// OCP's name.
    pub name: &'static str,
    /// What it lets its users do.
    pub rights: &'static [Right],
}

/// All of them. Whoever manages proxies starts tasks and chooses hosts and packages, so that these are seen too.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: ADMIN,
        rights: Right::ALL,
    },
    BuiltIn {
        name: "OBPROXY_VIEWER",
        rights: &[Right::ObproxyView],
    },
    BuiltIn {
        name: "OBPROXY_MANAGER",
        rights: &[
            Right::ObproxyView,
            Right::ObproxyManage,
            Right::TaskView,
            Right::PackageView,
            Right::HostView,
        ],
    },
    BuiltIn {
        name: "HOST_VIEWER",
        rights: &[Right::HostView],
    },
    BuiltIn {
        name: "HOST_MANAGER",
        rights: &[Right::HostView, Right::HostManage],
    },
    BuiltIn {
        name: "PACKAGE_VIEWER",
        rights: &[Right::PackageView],
    },
    BuiltIn {
        name: "PACKAGE_MANAGER",
        rights: &[Right::PackageView, Right::PackageManage],
    },
    BuiltIn {
        name: "TASK_VIEWER",
        rights: &[Right::TaskView],
    },
    BuiltIn {
        name: "TASK_MANAGER",
        rights: &[Right::TaskView, Right::TaskManage],
    },
];

/// The role of this name that is there from the beginning.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|role| role.name == name)
}

/// The roles with a right that are there from the beginning, for people to ask for: `OBPROXY_MANAGER, ADMIN`.
pub fn with(right: Right) -> String {
    let has = |role: &&BuiltIn| role.rights.contains(&right);
    let names: Vec<_> = BUILT_IN.iter().rev().filter(has).map(|role| role.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_see_what_they_manage_and_only_admin_makes_users() {
        for role in BUILT_IN {
            for right in role.rights {
                let Some(part) = right.name().strip_suffix(":manage") else {
                    continue;
                };
                let view = Right::named(&format!("{part}:view")).unwrap();
                assert!(role.rights.contains(&view), "{}: {part}", role.name);
            }
            assert_eq!(
                role.rights.contains(&Right::UserManage),
                role.name == ADMIN,
                "{}",
                role.name
            );
        }
        assert_eq!(with(Right::ObproxyManage), "OBPROXY_MANAGER, ADMIN");
    }
}
