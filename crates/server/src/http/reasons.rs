//! The words for what a refusal is about, in both languages.

use obfleet_wire::reason::{Arg, Reason, Thing};

use super::{language::Language, obstacles};

/// An argument as a part of a sentence.
pub fn text(arg: &Arg, language: Language) -> String {
    match arg {
        Arg::Text(text) => text.clone(),
        Arg::Thing(thing) => thing_text(thing, language),
        Arg::Reason(reason) => reason_text(reason, language),
    }
}

fn thing_text(thing: &Thing, language: Language) -> String {
    let say = |english: String, chinese: String| language.choose(english, chinese);
    match thing {
        Thing::ClusterKind => language.choose("proxy cluster", " OBProxy 集群").to_owned(),
        Thing::RegionKind => language.choose("region", "区域").to_owned(),
        Thing::IdcKind => language.choose("IDC", "机房").to_owned(),
        Thing::HostTypeKind => language.choose("host type", "机型").to_owned(),
        Thing::AccessKeyKind => language.choose("access key", "访问密钥").to_owned(),
        Thing::UserKind => language.choose("user", "用户").to_owned(),
        Thing::RoleKind => language.choose("role", "角色").to_owned(),
        Thing::Users(1) => say("one user".to_owned(), " 1 个用户".to_owned()),
        Thing::Users(count) => say(format!("{count} users"), format!(" {count} 个用户")),
        Thing::LogFileKind => language.choose("log file", "日志文件").to_owned(),
        Thing::Idcs(ids) => say(format!("IDC {ids}"), format!("机房 {ids} ")),
        Thing::HostAddress(address) => say(format!("the host address {address}"), format!("主机地址 {address} ")),
        Thing::Credential(id) => say(format!("credential {id}"), format!("凭据 {id} ")),
        Thing::HostKind => language.choose("host", "主机").to_owned(),
        Thing::Proxies(ids) => say(format!("proxy server {ids}"), format!("OBProxy 服务器 {ids} ")),
        Thing::Hosts(ids) => say(format!("host {ids}"), format!("主机 {ids} ")),
        Thing::Cluster(id) => say(format!("proxy cluster {id}"), format!("OBProxy 集群 {id} ")),
        Thing::ClusterName(name) => say(
            format!("the proxy cluster name {name}"),
            format!("OBProxy 集群名称 {name} "),
        ),
        Thing::ObClusterKind => language.choose("OceanBase cluster", " OceanBase 集群").to_owned(),
        Thing::ObCluster(id) => say(format!("OceanBase cluster {id}"), format!("OceanBase 集群 {id} ")),
        Thing::ObLinkKind => language
            .choose("link to an OceanBase cluster", "关联的 OceanBase 集群")
            .to_owned(),
        Thing::ObLinks(id) => say(
            format!("the links of proxy cluster {id}"),
            format!("OBProxy 集群 {id} 的 OceanBase 集群关联"),
        ),
        Thing::Proxy(id) => say(format!("proxy server {id}"), format!("OBProxy 服务器 {id} ")),
        Thing::ProxyOnPort { proxy, port } => say(
            format!("proxy server {proxy} on port {port}"),
            format!("使用端口 {port} 的 OBProxy 服务器 {proxy}"),
        ),
        Thing::HostPort { host, port } => say(
            format!("port {port} of host {host}"),
            format!("主机 {host} 的端口 {port} "),
        ),
        Thing::Task(id) => say(format!("task {id}"), format!("任务 {id} ")),
        Thing::OtherFile(found) => language.choose(*found, "其他类型的文件").to_owned(),
        Thing::Other(name) => name.clone(),
    }
}

fn reason_text(reason: &Reason, language: Language) -> String {
    let say = |english: String, chinese: String| language.choose(english, chinese);
    let fixed = |english: &str, chinese: &str| language.choose(english, chinese).to_owned();
    match reason {
        Reason::Empty => fixed("at least one is needed", "至少需要一个"),
        Reason::TextForm { least, most } => say(
            format!("it takes {least} to {most} characters, without control characters and without spaces at its ends"),
            format!("长度应为 {least} 至 {most} 个字符，不能包含控制字符，首尾不能有空格"),
        ),
        Reason::SecretNeeded => fixed(
            "it takes the password, or the text of the private key",
            "应为密码，或私钥的文本",
        ),
        Reason::NoPrivateKey => fixed(
            "it takes the whole text of a private key, from -----BEGIN to the end",
            "应为完整的私钥文本，以 -----BEGIN 开头",
        ),
        Reason::NoKey => fixed("it is for type PRIVATE_KEY only", "仅用于 PRIVATE_KEY 类型"),
        Reason::TooMany { given, most } => say(
            format!("it has {given} entries, and {most} are the most, so split it"),
            format!("有 {given} 项，最多 {most} 项，请拆分为多个请求"),
        ),
        Reason::ForOneHost => fixed("it can be set only where one host is added", "只能在添加单台主机时设置"),
        Reason::NoPort => fixed("0 is no port", "0 不是合法的端口"),
        Reason::NoAddress => fixed("it is not an IP address", "不是合法的 IP 地址"),
        Reason::NoFingerprint => fixed(
            "it is not of the form SHA256:..., as ssh-keygen -l prints it",
            "格式应为 SHA256:...，与 ssh-keygen -l 的输出一致",
        ),
        Reason::ForNewHosts => fixed("the hosts to come that name no other", "未指定其他归属的新主机"),
        Reason::NotAmong { id, list } => say(format!("{id} is not among {list}"), format!("{id} 不在 {list} 中")),
        Reason::VersionNeeded => fixed(
            "it is needed to install on hosts: the file name of an uploaded package",
            "在主机上安装时必须指定，应为已上传安装包的文件名",
        ),
        Reason::NoProxyPackage { package } => say(
            format!("{package} is not an OBProxy package"),
            format!("{package} 不是 OBProxy 安装包"),
        ),
        Reason::NotHigher {
            package,
            version,
            proxy,
        } => say(
            format!("{package} is not higher than {version}, which proxy server {proxy} runs"),
            format!("{package} 不高于 OBProxy 服务器 {proxy} 当前运行的版本 {version}"),
        ),
        Reason::PortRange(port) => say(
            format!("{port} is not from 1025 to 65535"),
            format!("{port} 不在 1025 至 65535 之间"),
        ),
        Reason::PortTwice(port) => say(format!("port {port} is given twice"), format!("端口 {port} 重复")),
        Reason::OneLink { given } => say(
            format!("workMode RS_LIST takes exactly one, {given} were given"),
            format!("workMode 为 RS_LIST 时只能有一个，当前有 {given} 个"),
        ),
        Reason::NoRootServers => fixed(
            "workMode RS_LIST needs root servers, as rootServers of the obLink or as rootservice_list in \
             startupParameters",
            "workMode 为 RS_LIST 时需要 RootServer 地址，请在 obLink 的 rootServers 或 startupParameters 的 \
             rootservice_list 中指定",
        ),
        Reason::RootServerForm(server) => say(
            format!(
                "the root server '{server}' is not of the form ip:sqlport or ip:rpcport:sqlport, with an IP address"
            ),
            format!("RootServer '{server}' 的格式应为 ip:sqlport 或 ip:rpcport:sqlport，且必须使用 IP 地址"),
        ),
        Reason::TooManyRootServers { limit } => say(
            format!("an OceanBase cluster has {limit} root servers at most"),
            format!("一个 OceanBase 集群最多 {limit} 个 RootServer"),
        ),
        Reason::OtherRootServers { name, id } => say(
            format!(
                "OceanBase cluster {name} is registered with other root servers, so leave them out, or change them at \
                 /api/v2/ob/clusters/{id}"
            ),
            format!(
                "OceanBase 集群 {name} 已登记了不同的 RootServer，请不要在此指定，或通过 /api/v2/ob/clusters/{id} 修改"
            ),
        ),
        Reason::UnknownObCluster { asked } => say(
            format!(
                "no OceanBase cluster {asked} with root servers is registered, so register it at /api/v2/ob/clusters, or give \
                 its rootServers"
            ),
            format!(
                "没有登记带 RootServer 的 OceanBase 集群 {asked}，请通过 /api/v2/ob/clusters 登记或指定 rootServers"
            ),
        ),
        Reason::ObClusterNeeded => fixed(
            "clusterName has to say which OceanBase cluster, or clusterId",
            "必须通过 clusterName 或 clusterId 指定 OceanBase 集群",
        ),
        Reason::ObClusterNameForm => fixed(
            "it must begin with a letter or digit, and have letters, digits, '_', '-' and '.' only, 128 at most; MetaDataBase \
             is taken",
            "应以字母或数字开头，只能包含字母、数字、下划线、连字符和点，且不超过 128 个字符，不能为 MetaDataBase",
        ),
        Reason::ObClusterIdRange(id) => say(
            format!("{id} is not from 1 to 4294901759"),
            format!("{id} 不在 1 至 4294901759 之间"),
        ),
        Reason::ObClusterIdNeeded { name } => say(
            format!("there are several OceanBase clusters named {name}, and each needs its own obClusterId"),
            format!("名为 {name} 的 OceanBase 集群有多个，每个都必须有各自的 obClusterId"),
        ),
        Reason::SecondPrimary { name, id } => say(
            format!("OceanBase cluster {id}, which is named {name} too, is PRIMARY, so make it STANDBY first"),
            format!("同名（{name}）的 OceanBase 集群 {id} 已是 PRIMARY，请先将其改为 STANDBY"),
        ),
        Reason::LinkedTwice { name } => say(
            format!("OceanBase cluster {name} is named twice"),
            format!("OceanBase 集群 {name} 重复"),
        ),
        Reason::FixedLink => fixed(
            "the cluster's workMode is RS_LIST, so it has one OceanBase cluster for good, and to change its root servers, \
             change those of the OceanBase cluster and restart the proxies",
            "集群的 workMode 为 RS_LIST，只能固定关联一个 OceanBase 集群；如需变更 RootServer，请修改该 OceanBase 集群的登记并重启 OBProxy",
        ),
        Reason::NoObClusters => fixed(
            "no OceanBase cluster is registered whose proxyro it could be: register one first, or give a proxy cluster its own \
             proxyroPassword",
            "尚未登记任何 OceanBase 集群，无处设置 proxyro 密码；请先登记 OceanBase 集群，或为 OBProxy 集群单独指定 proxyroPassword",
        ),
        Reason::LastLink { name } => say(
            format!(
                "{name} is the last OceanBase cluster of a proxy cluster with proxies, which would keep it, since they take no \
                 configuration without one: link another first, or take the proxies away"
            ),
            format!(
                "{name} 是该 OBProxy 集群关联的最后一个 OceanBase 集群，而 OBProxy 不接受空配置，会继续使用它；请先关联其他集群或删除 OBProxy"
            ),
        ),
        Reason::TooManyProxyroPasswords => fixed(
            "the OceanBase clusters behind one proxy cluster have more than two different passwords of proxyro, and a proxy \
             keeps two",
            "同一 OBProxy 集群关联的 OceanBase 集群中，proxyro 的密码超过两种，而 OBProxy 只能保存两个",
        ),
        Reason::Served { by } => say(
            format!("it is served by proxy cluster {by}, so remove that link first"),
            format!("它正由 OBProxy 集群 {by} 提供代理，请先删除该关联"),
        ),
        Reason::FollowsFromWorkMode { name } => say(
            format!("{name} follows from the cluster's workMode and obLinks, so leave it out"),
            format!("{name} 由集群的 workMode 与 obLinks 决定，请不要指定"),
        ),
        Reason::ClusterNameForm => fixed(
            "it must begin with a letter, and have letters, digits and '_' only, 64 at most",
            "应以字母开头，只能包含字母、数字和下划线，且不超过 64 个字符",
        ),
        Reason::ContextTooLarge { size, limit } => say(
            format!("its task would carry {size} bytes, but {limit} is the most, so split it into several"),
            format!("其任务上下文有 {size} 字节，超过 {limit} 字节的上限，请拆分为多个请求"),
        ),
        Reason::ParameterUnknown(name) => say(
            format!("proxies have no parameter '{name}', see parameterInfo for those they have"),
            format!("OBProxy 没有参数 '{name}'，可通过 parameterInfo 查看全部参数"),
        ),
        Reason::ParameterTwice(name) => say(format!("'{name}' is given twice"), format!("参数 '{name}' 重复")),
        Reason::ParameterNotThere { name, proxy, version } => say(
            format!("proxy server {proxy} runs {version}, which has no parameter '{name}'"),
            format!("OBProxy 服务器 {proxy} 运行的版本 {version} 没有参数 '{name}'"),
        ),
        Reason::ParameterType { name, value, wanted } => say(
            format!("'{value}' is not a valid {wanted}, which {name} takes"),
            format!("'{value}' 不符合参数 {name} 的类型"),
        ),
        Reason::ParameterRange { name, value, range } => say(
            format!("'{value}' is outside {range}, the bounds of {name}"),
            format!("'{value}' 超出参数 {name} 的取值范围 {range}"),
        ),
        Reason::ParameterText { longest } => say(
            format!(
                "a value has {longest} characters at most, no control characters or backslashes, and not both kinds of quotes"
            ),
            format!("参数值最多 {longest} 个字符，不能包含控制字符或反斜杠，且不能同时包含两种引号"),
        ),
        Reason::NoDrift => fixed(
            "no parameter that was asked for is other than it should be",
            "所选参数均与期望值一致，没有需要处理的差异",
        ),
        Reason::RollbackStopped => fixed(
            "FAILED in its rollback (the ways on are to roll it back again, to skip the step that could not be undone, or \
             to abandon it)",
            "FAILED（回滚未完成，可再次回滚、跳过无法撤销的步骤或放弃该任务）",
        ),
        Reason::Paused => fixed("RUNNING but paused (resume it first)", "RUNNING（已暂停，请先恢复）"),
        Reason::Canceling => fixed("being cancelled (it will be FAILED soon)", "取消中（即将变为 FAILED）"),
        Reason::Abandoned => fixed("abandoned for good", "已放弃（不可再操作）"),
        Reason::RolledBack => fixed(
            "FAILED and rolled back by itself (nothing of it is left, so send the request again)",
            "FAILED（已自动回滚，未留下任何变更，可重新提交请求）",
        ),
        Reason::NotTakenOver { host, port, obstacle } => {
            let what = obstacles::obstacle_text(obstacle, language);
            say(
                format!("the proxy on port {port} of host {host} cannot be taken over: {what}"),
                format!("无法接管主机 {host} 端口 {port} 上的 OBProxy：{what}"),
            )
        }
        Reason::ChangedMeanwhile => fixed(
            "what it is about has changed meanwhile, so look at it again",
            "相关对象在此期间已发生变化，请刷新后再试",
        ),
        Reason::Malformed(detail) => say(
            format!("it is a malformed RPM, {detail}"),
            "文件不符合 RPM 格式".to_owned(),
        ),
        Reason::Damaged => fixed(
            "it is damaged, since its content differs from its own digests",
            "文件已损坏，内容与其自带的摘要不一致",
        ),
        Reason::Unsigned => fixed(
            "it carries no signature, and this server takes only packages signed by a key in its directory of package keys",
            "其中没有签名，而本服务器只接受由其安装包公钥目录中的密钥签名的安装包",
        ),
        Reason::UnknownSigner(key) if key.is_empty() => fixed(
            "its signature names no key, so it cannot be told whose it is",
            "其签名未指明密钥，无法判断签名者",
        ),
        Reason::UnknownSigner(key) => say(
            format!(
                "it is signed by the key {key}, which is not in this server's directory of package keys; put the public key \
                 there if you trust its owner"
            ),
            format!("签名密钥 {key} 不在本服务器的安装包公钥目录中，如信任该签名者，请将其公钥放入该目录"),
        ),
        Reason::UnreadableSignature(detail) => say(
            format!("its signature cannot be read, {detail}"),
            "无法读取其签名".to_owned(),
        ),
        Reason::BadSignature { key } => say(
            format!("its content is not what the key {key} signed, so it was changed or damaged on its way"),
            format!("内容与密钥 {key} 的签名不符，安装包在途中被修改或已损坏"),
        ),
        Reason::WeakSignature { key } => say(
            format!(
                "the signature by the key {key} rests on digests that can be forged; ask its maker for one signed anew"
            ),
            format!("密钥 {key} 的签名依赖可被伪造的摘要算法，请向发布者索取重新签名的安装包"),
        ),
        Reason::RevokedSigner { key } => say(
            format!("the key {key} that signed it was revoked by its owner; ask for a package signed by another"),
            format!("签名密钥 {key} 已被其所有者吊销，请索取由其他密钥签名的安装包"),
        ),
        Reason::SignerNotValid { key } => say(
            format!(
                "the key {key} was not valid when it signed the package; if its owner has prolonged it, put the present public \
                 key into this server's directory of package keys"
            ),
            format!("签名时密钥 {key} 不在有效期内；如已延期，请在本服务器的安装包公钥目录中更新该公钥"),
        ),
        Reason::SignerNotForSigning { key } => say(
            format!("the key {key} that signed it is not one for signing"),
            format!("密钥 {key} 不可用于签名"),
        ),
        Reason::SignatureNotNow { key } => say(
            format!("the signature by the key {key} has expired or is from the future; compare this server's clock"),
            format!("密钥 {key} 的签名已过期，或其时间晚于当前时间，请核对本服务器的时钟"),
        ),
        Reason::NoExecutable => fixed(
            "it holds no bin/obproxy below /home/admin or /opt/taobao/install",
            "其中没有 /home/admin 或 /opt/taobao/install 下的 bin/obproxy",
        ),
        Reason::TooLarge { limit } => say(
            format!("it, or something in it, is larger than {limit} bytes"),
            format!("文件或其内容超过 {limit} 字节的上限"),
        ),
        Reason::TooManyFiles { files, limit } => say(
            format!("it lists {files} files, but {limit} is the most"),
            format!("其中列出 {files} 个文件，超过 {limit} 个的上限"),
        ),
        Reason::UnsafeFile(path) => say(
            format!("it holds {path}, which leads out of its directory or is no plain file"),
            format!("其中的 {path} 指向目录之外或不是普通文件"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn things() -> Vec<Arg> {
        let id = || "7".to_owned();
        [
            Thing::ClusterKind,
            Thing::Cluster(id()),
            Thing::ClusterName(id()),
            Thing::ObClusterKind,
            Thing::ObCluster(id()),
            Thing::ObLinkKind,
            Thing::ObLinks(id()),
            Thing::Proxy(id()),
            Thing::Proxies(id()),
            Thing::HostKind,
            Thing::HostAddress("10.0.0.9".to_owned()),
            Thing::Credential(id()),
            Thing::ProxyOnPort { proxy: 7, port: 2883 },
            Thing::HostPort { host: id(), port: id() },
            Thing::Task(id()),
            Thing::OtherFile("a zip archive"),
        ]
        .map(Arg::Thing)
        .to_vec()
    }

    fn reasons() -> Vec<Arg> {
        let name = || "x".to_owned();
        [
            Reason::Empty,
            Reason::NotAmong { id: 7, list: "x" },
            Reason::TooMany { given: 3, most: 2 },
            Reason::ForOneHost,
            Reason::NoPort,
            Reason::NoAddress,
            Reason::NoFingerprint,
            Reason::VersionNeeded,
            Reason::NoProxyPackage { package: name() },
            Reason::NotHigher {
                package: name(),
                version: "4.2.1.0-11".to_owned(),
                proxy: 7,
            },
            Reason::PortRange(80),
            Reason::PortTwice(2883),
            Reason::OneLink { given: 2 },
            Reason::NoRootServers,
            Reason::RootServerForm(name()),
            Reason::TooManyRootServers { limit: 1 },
            Reason::OtherRootServers { name: name(), id: 7 },
            Reason::UnknownObCluster { asked: name() },
            Reason::ObClusterNeeded,
            Reason::ObClusterNameForm,
            Reason::ObClusterIdRange(0),
            Reason::ObClusterIdNeeded { name: name() },
            Reason::SecondPrimary { name: name(), id: 7 },
            Reason::LinkedTwice { name: name() },
            Reason::FixedLink,
            Reason::NoObClusters,
            Reason::LastLink { name: name() },
            Reason::TooManyProxyroPasswords,
            Reason::Served { by: name() },
            Reason::FollowsFromWorkMode { name: name() },
            Reason::ClusterNameForm,
            Reason::ContextTooLarge { size: 2, limit: 1 },
            Reason::ParameterUnknown(name()),
            Reason::ParameterTwice(name()),
            Reason::ParameterNotThere {
                name: name(),
                proxy: 7,
                version: "4.2.1.0-11".to_owned(),
            },
            Reason::ParameterType {
                name: name(),
                value: "y".to_owned(),
                wanted: "integer".to_owned(),
            },
            Reason::ParameterRange {
                name: name(),
                value: "9".to_owned(),
                range: "[0,8]".to_owned(),
            },
            Reason::ParameterText { longest: 1 },
            Reason::NoDrift,
            Reason::RollbackStopped,
            Reason::Paused,
            Reason::Canceling,
            Reason::Abandoned,
            Reason::RolledBack,
            Reason::ChangedMeanwhile,
            Reason::Malformed("it ends inside its lead".to_owned()),
            Reason::Damaged,
            Reason::Unsigned,
            Reason::UnknownSigner(name()),
            Reason::UnknownSigner(String::new()),
            Reason::UnreadableSignature(name()),
            Reason::BadSignature { key: name() },
            Reason::WeakSignature { key: name() },
            Reason::RevokedSigner { key: name() },
            Reason::SignerNotValid { key: name() },
            Reason::SignerNotForSigning { key: name() },
            Reason::SignatureNotNow { key: name() },
            Reason::NoExecutable,
            Reason::TooLarge { limit: 1 },
            Reason::TooManyFiles { files: 2, limit: 1 },
            Reason::UnsafeFile(name()),
        ]
        .map(Arg::Reason)
        .to_vec()
    }

    #[test]
    fn each_is_told_wholly_in_either_language() {
        for arg in [things(), reasons()].concat() {
            let (english, chinese) = (text(&arg, Language::English), text(&arg, Language::Chinese));
            assert!(english.is_ascii() && !english.is_empty(), "{english}");
            assert!(
                chinese.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)),
                "{chinese}"
            );
            assert!(!has_english_prose(&chinese), "{chinese}");
        }
    }

    #[test]
    fn prose_is_told_from_names() {
        assert!(has_english_prose("请求体（it ends too early）"));
        assert!(!has_english_prose("workMode 为 RS_LIST 时需要 RootServer 地址"));
    }

    /// Whether two English words of small letters follow each other.
    fn has_english_prose(text: &str) -> bool {
        let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        let words: Vec<&str> = text.split([' ', '（', '）', '，', '。', '：']).collect();
        words.windows(2).any(|pair| pair.iter().all(is_word))
    }
}
