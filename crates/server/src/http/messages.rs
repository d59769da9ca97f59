//! The sentence and the HTTP status of each error code, in both languages.
//!
//! Codes and the order of their arguments are OCP's; the sentences are obfleet's own: what, why, and the next step.

use axum::http::StatusCode;
use obfleet_wire::Code;

use super::language::Language;

/// What is said, and with which status, when a request is refused with a code.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// The HTTP status, unless the refusal has a better one.
    pub status: StatusCode,
    english: &'static str,
    chinese: &'static str,
}

impl Message {
    /// The sentence with its arguments in place.
    pub fn sentence(self, language: Language, arguments: &[String]) -> String {
        fill(language.choose(self.english, self.chinese), arguments)
    }
}

/// OCP's way of writing the code, `ODP21002`.
pub fn label(code: Code) -> String {
    format!("{code:?}").to_ascii_uppercase()
}

/// The number alone, 21002: what the envelope's `error.code` carries.
pub fn number(code: Code) -> u32 {
    label(code)
        .trim_start_matches(|c: char| c.is_ascii_alphabetic())
        .parse()
        .unwrap_or_default()
}

/// Puts argument n in the place of every `{n}`; a missing argument is left out.
fn fill(template: &str, arguments: &[String]) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((place, tail)) = after.split_once('}') else {
            break;
        };
        if let Some(argument) = place.parse().ok().and_then(|n: usize| arguments.get(n)) {
            text.push_str(argument);
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

macro_rules! messages {
    ($($code:ident $status:ident $english:literal $chinese:literal)*) => {
        /// The message of a code.
        pub fn message(code: Code) -> Message {
            match code {
                $(Code::$code => Message { status: StatusCode::$status, english: $english, chinese: $chinese },)*
            }
        }

        #[cfg(test)]
        const ALL: &[Code] = &[$(Code::$code),*];
    };
}

messages! {
    Com10001 BAD_REQUEST
        "{0}. Correct it and send the request again."
        "{0}。请更正后重新提交。"
    Com10002 NOT_FOUND
        "There is no {0} with {1}. Look it up in the list and try again."
        "不存在 {1} 的{0}，请在列表中确认后再试。"
    Com10003 BAD_REQUEST
        "The request cannot be understood or carried out: {0}."
        "无法理解或执行该请求：{0}。"
    Com10005 CONFLICT
        "Task {1} ({2}) holds {0}. Wait until that task is done; if it has failed, retry it, roll it back or abandon it, which lets go of what it holds."
        "{0}正被任务 {1}（{2}）占用。请等待该任务结束；若任务已失败，请重试、回滚或放弃该任务以释放占用。"
    Com10006 CONFLICT
        "There is a {0} named {1} already. Choose another name."
        "名为 {1} 的{0}已经存在，请换一个名称。"
    Com10008 BAD_REQUEST
        "This address does not take that method. Check the method against the API reference."
        "该地址不接受此方法，请对照 API 文档检查请求方法。"
    Com10009 FORBIDDEN
        "This is not let in: {0}."
        "拒绝访问：{0}。"
    Com10999 INTERNAL_SERVER_ERROR
        "The server could not finish the request: {0}. Find the trace id in the server's log for the details."
        "服务器内部出错，未能完成该请求。请用 traceId 在服务器日志中查看详情。内部错误信息：{0}"
    Iam10000 UNAUTHORIZED
        "This needs a login: {0}."
        "该操作需要登录：{0}。"
    Iam10001 UNAUTHORIZED
        "Your user is disabled. Ask an administrator to enable it."
        "当前用户已被禁用，请联系管理员启用。"
    Iam10003 UNAUTHORIZED
        "This user name is locked after too many failed logins. Wait for {0} seconds, or ask an administrator to unlock it."
        "该用户名因登录失败次数过多已被锁定，请等待 {0} 秒，或联系管理员解锁。"
    Iam10004 UNAUTHORIZED
        "User or password is wrong. Check both; {0} more failures lock this user name for a while."
        "用户名或密码不正确，请核对。再失败 {0} 次，该用户名将被暂时锁定。"
    Iam10006 UNAUTHORIZED
        "User or password is wrong. Check both; {0} more failures lock this user name for a while."
        "用户名或密码不正确，请核对。再失败 {0} 次，该用户名将被暂时锁定。"
    Iam10007 UNAUTHORIZED
        "There were too many failed logins. Wait for {0} seconds before the next try."
        "登录失败次数过多，请等待 {0} 秒后再试。"
    Iam10008 BAD_REQUEST
        "{0} cannot be a user name: it takes 4 to 48 letters, digits, dots, hyphens and underscores, a letter first and a letter or digit last."
        "{0} 不能作为用户名：长度 4 至 48 个字符，由字母、数字、点、连字符和下划线组成，以字母开头，以字母或数字结尾。"
    Iam10009 BAD_REQUEST
        "The password is not strong enough: 8 to 32 characters, from at least three of digits, lower case, upper case and punctuation."
        "密码强度不足：长度 8 至 32 个字符，并至少包含数字、小写字母、大写字母和特殊字符中的三类。"
    Iam10011 BAD_REQUEST
        "The present password is another one. Type it again."
        "当前密码不正确，请重新输入。"
    Iam10016 BAD_REQUEST
        "{0} cannot be a role name: it takes 2 to 32 letters, digits and underscores, a letter first and a letter or digit last."
        "{0} 不能作为角色名：长度 2 至 32 个字符，由字母、数字和下划线组成，以字母开头，以字母或数字结尾。"
    Iam10017 FORBIDDEN
        "Your user has the right {0} for other proxy clusters only. Ask an administrator to add this one, or for a role that is not bound to clusters."
        "当前用户的 {0} 权限不包含该资源所属的 OBProxy 集群，请联系管理员扩大角色的集群范围。"
    Iam10018 BAD_REQUEST
        "Your user has {0} access keys, and that is the most. Delete one that is no longer used."
        "当前用户已有 {0} 个访问密钥，达到上限，请先删除不再使用的密钥。"
    Iam10020 FORBIDDEN
        "Your password was set by somebody else and has to be changed before anything else. Change it with POST /api/v2/profiles/me/changePassword."
        "当前密码由他人设置，须先修改密码才能继续。请调用 POST /api/v2/profiles/me/changePassword 修改。"
    Iam10021 BAD_REQUEST
        "The new password is the old one. Choose another."
        "新密码与旧密码相同，请换一个。"
    Iam11000 FORBIDDEN
        "Your user is not allowed to do this: it takes the right {0}, which these roles have: {1}. Ask an administrator for one of them."
        "当前用户无权执行此操作：需要 {0} 权限，具备该权限的角色有 {1}。请联系管理员授予。"
    Iam11002 BAD_REQUEST
        "{0} is no right that a custom role may have. The role ADMIN lists all rights; user:manage is for ADMIN alone."
        "自定义角色不能包含权限 {0}。全部权限见 ADMIN 角色；user:manage 仅限 ADMIN。"
    Iam11003 BAD_REQUEST
        "Role {0} is there from the beginning and cannot be deleted. Take it away from users instead."
        "角色 {0} 是系统默认角色，不能删除。可从用户处收回该角色。"
    Iam11004 BAD_REQUEST
        "User {0} is there from the beginning and cannot be deleted, so that there is always an administrator."
        "用户 {0} 是系统默认用户，不能删除，以保证始终有管理员。"
    Iam11005 BAD_REQUEST
        "The user name {0} is reserved. Choose another; admin, sys, dba and proxy are not taken as names."
        "用户名 {0} 为系统保留，请换一个，不能使用 admin、sys、dba 和 proxy。"
    Iam11006 BAD_REQUEST
        "The roles of user {0} cannot be changed, so that there is always an administrator. Give another user the roles that you want."
        "用户 {0} 的角色不能修改，以保证始终有管理员。请为其他用户授予所需角色。"
    Iam11007 BAD_REQUEST
        "User {0} is there from the beginning and cannot be disabled, so that there is always an administrator."
        "用户 {0} 是系统默认用户，不能禁用，以保证始终有管理员。"
    Iam11008 BAD_REQUEST
        "Nobody can delete or disable their own user. Ask another administrator."
        "不能删除或禁用自己，请联系其他管理员。"
    Iam11009 BAD_REQUEST
        "Role {0} is there from the beginning and cannot be changed. Make a role of your own with the rights that you want."
        "角色 {0} 是系统默认角色，不能修改。请新建包含所需权限的角色。"
    Tsk10001 NOT_FOUND
        "Task {0} is not there. Look up its id in the list of tasks."
        "任务 {0} 不存在，请在任务列表中确认其 ID。"
    Tsk10007 BAD_REQUEST
        "Task {0} is {1}, and in that state this cannot be done. Look at the task again and choose another step."
        "任务 {0} 处于 {1} 状态，不能执行该操作。请刷新任务后选择其他操作。"
    Tsk10009 BAD_REQUEST
        "Task {0} cannot be rolled back. Retry it, skip the step that failed, or abandon it."
        "任务 {0} 不能回滚，请重试该任务、跳过失败的步骤或放弃该任务。"
    Tsk10010 BAD_REQUEST
        "Step {0} cannot be skipped. Retry it, or roll the task back."
        "步骤 {0} 不能跳过，请重试该步骤或回滚任务。"
    Tsk10016 BAD_REQUEST
        "Task {0} would have to be {1} for this. Wait for that state, or choose another step."
        "任务 {0} 需处于 {1} 状态才能执行该操作，请等待或选择其他操作。"
    Odp10001 BAD_REQUEST
        "Proxy {0} cannot be reached. Check that its process runs and that root@proxysys can log in from its host."
        "无法连接 OBProxy {0}。请检查其进程是否在运行，以及能否在所在主机上以 root@proxysys 登录。"
    Odp21001 NOT_FOUND
        "There is no proxy cluster with id {0}. Look up its id in the list of clusters."
        "没有 ID 为 {0} 的 OBProxy 集群，请在集群列表中确认其 ID。"
    Odp21002 NOT_FOUND
        "There is no proxy server with id {0}. Look up its id in the details of its cluster."
        "没有 ID 为 {0} 的 OBProxy 服务器，请在集群详情中确认其 ID。"
    Odp21010 BAD_REQUEST
        "Proxy cluster {0} is {1}, which rules this out. Wait until it is in another state."
        "OBProxy 集群 {0} 处于 {1} 状态，不能执行该操作，请等待其状态变化后再试。"
    Odp21011 BAD_REQUEST
        "The link to OceanBase cluster {0} does not hold: proxyro could not log in there. Check its root servers and password."
        "到 OceanBase 集群 {0} 的关联不可用：proxyro 无法登录。请检查其 RootServer 地址与密码。"
    Odp21015 BAD_REQUEST
        "Proxy server {0} belongs to another cluster than {1}. Use the id of its own cluster."
        "OBProxy 服务器 {0} 不属于集群 {1}，请使用其所属集群的 ID。"
    Odp21016 BAD_REQUEST
        "Proxy server {0} is {1}, which rules this out. Bring it into another state first."
        "OBProxy 服务器 {0} 处于 {1} 状态，不能执行该操作，请先使其恢复。"
    Odp21017 BAD_REQUEST
        "Proxy server {0} has to be {1} for this. Look at its status, and bring it there first."
        "OBProxy 服务器 {0} 需处于 {1} 状态才能执行该操作，请先查看其状态并使其恢复。"
    Odp21018 BAD_REQUEST
        "The version of proxy server {0} does not fit: it takes at least {1}."
        "OBProxy 服务器 {0} 的版本不符合要求：至少需要 {1}。"
    Odp21102 NOT_FOUND
        "There is no proxy cluster named {0} to balance load over. Give a cluster's name as appName."
        "没有名为 {0} 的 OBProxy 集群可供负载均衡，请以集群名作为 appName。"
    Odp21104 BAD_REQUEST
        "Proxy server {1} is {0} already. Leave it out of the request."
        "OBProxy 服务器 {1} 已处于 {0} 状态，请从请求中去掉。"
    Odp21105 BAD_REQUEST
        "Parameter {0} can only be read."
        "参数 {0} 只能读取，不能修改。"
    Odp21106 BAD_REQUEST
        "The password is not strong enough: 8 to 32 characters, from at least three of digits, lower case, upper case and punctuation."
        "密码强度不足：长度 8 至 32 个字符，并至少包含数字、小写字母、大写字母和特殊字符中的三类。"
    Odp21107 BAD_REQUEST
        "This is not possible with the proxy as it is: {0}."
        "OBProxy 当前不能执行该操作：{0}。"
    Odp21114 BAD_REQUEST
        "Directory {1} on host {0} holds files already, so no proxy is installed over it. Empty it or choose another host."
        "主机 {0} 上的目录 {1} 中已有文件，不能在其上安装 OBProxy。请清空该目录或更换主机。"
    Odp21115 BAD_REQUEST
        "The proxy cluster has no server, so there is nothing to do. Add one first."
        "OBProxy 集群中没有服务器，无可执行的操作，请先添加服务器。"
    Odp21116 BAD_REQUEST
        "Host {0} carries {1} already. Choose another host."
        "主机 {0} 上已有 {1}，请选择其他主机。"
    Cmp07000 CONFLICT
        "The {0} with id {1} cannot be deleted: it is in use by {2}. Take what uses it away first."
        "ID 为 {1} 的{0}不能删除：{2}正在使用。请先移除使用者。"
    Cmp07001 CONFLICT
        "The host {0} is there already, or another one has its address and SSH port or agent port {1}. Look it up in the list of hosts."
        "主机 {0} 已经存在，或其他主机已使用其地址与 SSH 端口或 agent 端口 {1}，请在主机列表中确认。"
    Cmp07004 BAD_REQUEST
        "Host {0} is away or in use. It has to be {1} for this: check its agent, or choose another host."
        "主机 {0} 离线或已被使用，其状态需为 {1}。请检查其 agent 或选择其他主机。"
    Cmp07005 NOT_FOUND
        "There is no host {0}. Look up its id in the list of hosts; a host appears there when it is added or its agent enrols."
        "没有主机 {0}。请在主机列表中确认其 ID；主机在添加后或其 agent 注册后出现。"
    Cmp07010 BAD_REQUEST
        "Host {0} carries another {1}, and it takes one only. Choose another host."
        "主机 {0} 上已有另一个{1}，只能部署一个，请选择其他主机。"
    Cmp07025 BAD_REQUEST
        "Package {1} is built for another architecture than that of host {0}. Upload one that fits."
        "安装包 {1} 的架构与主机 {0} 不一致，请上传匹配的安装包。"
    Cmp07028 BAD_REQUEST
        "The path '{0}' cannot be an agent's: it has to be absolute, below the root directory, without '.' and '..', and of letters, digits and ._-@+ only."
        "路径 '{0}' 不可用：应为根目录之下的绝对路径，不含 '.' 与 '..'，且只由字母、数字和 ._-@+ 组成。"
    Crd08001 NOT_FOUND
        "You have no credential with id {0}. Look it up in the list of your credentials."
        "您没有 ID 为 {0} 的凭据，请在凭据列表中确认其 ID。"
    Crd08002 CONFLICT
        "You have a credential named {0} already. Use it, or choose another name."
        "您已有名为 {0} 的凭据，请直接使用或换一个名称。"
    Pkg10003 BAD_REQUEST
        "The file name ends in {0}, but {1} is needed."
        "文件名后缀为 {0}，应为 {1}。"
    Pkg10004 BAD_REQUEST
        "The file is {0}, but {1} is needed."
        "文件的实际类型为 {0}，应为 {1}。"
    Pkg10006 BAD_REQUEST
        "The package is not taken: {0}. Check the file and upload it again."
        "无法接受安装包：{0}。请检查文件后重新上传。"
    Pkg10007 CONFLICT
        "Package {0} is in use by {1}. Delete it when nothing uses it any more."
        "安装包 {0} 正被 {1} 使用，不再使用后方可删除。"
    Pkg10012 CONFLICT
        "Package {0} is there already. Use it, or delete it before uploading another one of that name."
        "安装包 {0} 已经存在。请直接使用，或先删除再上传同名安装包。"
    Pkg10014 NOT_FOUND
        "There is no package {0}. Upload it first, or take one from the list of packages."
        "没有安装包 {0}，请先上传，或从安装包列表中选择。"
    Pkg10015 BAD_REQUEST
        "Packages for {0} are not supported; x86_64 and aarch64 are."
        "不支持 {0} 架构的安装包，仅支持 x86_64 与 aarch64。"
    Pkg10016 BAD_REQUEST
        "{0} is not a package name of the form name-version-build, such as obproxy-ce-4.3.1.0-1."
        "{0} 不是形如 名称-版本-构建号 的安装包名，例如 obproxy-ce-4.3.1.0-1。"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn places(template: &str) -> BTreeSet<usize> {
        template
            .split('{')
            .skip(1)
            .map(|part| part.split('}').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn every_code_has_both_sentences_with_the_same_arguments() {
        for code in ALL {
            let message = message(*code);
            assert!(message.english.is_ascii() && !message.english.is_empty(), "{code:?}");
            assert!(
                message.chinese.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)),
                "{code:?}"
            );
            let places_en = places(message.english);
            assert_eq!(places_en, places(message.chinese), "{code:?}");
            assert_eq!(
                places_en,
                (0..places_en.len()).collect(),
                "{code:?} leaves an argument out"
            );
            assert!(
                message.status.is_client_error() || message.status.is_server_error(),
                "{code:?}"
            );
        }
    }

    #[test]
    fn the_documented_codes_are_those_there_are_with_cause_and_remedy() {
        for page in ["en", "zh"] {
            let path = format!("{}/../../docs/error-codes/{page}.md", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(&path).unwrap();
            let rows: Vec<Vec<&str>> = text
                .lines()
                .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
                .map(|line| line.split(" | ").collect())
                .skip(1)
                .collect();
            let documented: Vec<(String, String)> = rows
                .iter()
                .map(|row| {
                    assert!(
                        row.len() == 4 && row.iter().all(|cell| !cell.trim().is_empty()),
                        "{page}: {row:?}"
                    );
                    (row[0].to_owned(), row[1].to_owned())
                })
                .collect();
            let there_are = ALL
                .iter()
                .map(|code| (label(*code), message(*code).status.as_u16().to_string()));
            assert_eq!(documented, there_are.collect::<Vec<_>>(), "{page}");
        }
    }

    #[test]
    fn codes_are_written_as_ocp_does() {
        assert_eq!(label(Code::Odp21002), "ODP21002");
        assert_eq!(number(Code::Odp21002), 21002);
        assert_eq!(number(Code::Cmp07005), 7005);
        let labels: BTreeSet<String> = ALL.iter().map(|code| label(*code)).collect();
        assert_eq!(labels.len(), ALL.len());
    }

    #[test]
    fn arguments_are_put_in_place_and_never_read_as_places() {
        let arguments = ["{1}".to_owned(), "b".to_owned()];
        assert_eq!(fill("{1} and {0} and {0}", &arguments), "b and {1} and {1}");
        assert_eq!(fill("{0}{2}!", &arguments), "{1}!");
    }
}
