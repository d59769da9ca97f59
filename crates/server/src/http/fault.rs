//! What can be wrong with a request, or with its moment, before anything is changed; told in both languages.

use super::language::Language;

/// What is wrong with a request, found before anything was asked of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A path or query parameter or a body member with a value that cannot be.
    Value {
        /// The parameter's or member's name.
        name: String,
        /// What was given.
        given: String,
        /// What it has to be.
        wanted: Wanted,
    },
    /// A body member nobody knows.
    UnknownMember(String),
    /// A body member that has to be there.
    MissingMember(String),
    /// A body member that is there twice.
    RepeatedMember(String),
    /// A body member of the wrong type.
    WrongMember {
        /// The member's path, `obproxyInstallParam.hostIds[0]`; `body` for the whole.
        member: String,
        /// What it has to be.
        expected: Expected,
    },
    /// A body that is no JSON.
    NotJson {
        /// The line at which that shows, from 1.
        line: usize,
        /// The column in it.
        column: usize,
        /// Whether the body just ends too early.
        cut_short: bool,
    },
    /// A body of the wrong type; the one that is needed.
    ContentType(&'static str),
    /// A body larger than so many bytes.
    TooLarge(u64),
    /// A body that stopped coming.
    BodyBroken,
    /// A multipart body without the part.
    MissingPart(&'static str),
    /// A multipart body with the part twice.
    RepeatedPart(&'static str),
    /// A part of a file that has so many bytes and ends before it.
    RangeBeyond(u64),
    /// The server's disk is full.
    NoRoom,
    /// A method and path nobody serves.
    NoRoute {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// An `Idempotency-Key` that came with another request before.
    KeyReused {
        /// The task that request made.
        task: i64,
    },
    /// A stream of events when the server has as many listeners as it takes.
    TooManyListeners(usize),
    /// An upload when as many are on their way as the server takes.
    TooManyUploads(usize),
    /// A request of a user who has made as many as may be made in a minute.
    TooManyRequests(u32),
    /// A change while the server has no lease on the database.
    NoLease,
    /// A package while the keys that packages may be signed with cannot be read.
    PackageKeys,
    /// A change while the server stops.
    Stopping,
    /// An enrolment that cannot be accepted.
    Enrolment(EnrolmentFault),
    /// A request of nobody who is known.
    Login(LoginFault),
    /// A browser's request that another site may have made it send.
    OtherSite,
}

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A positive integer id.
    Id,
    /// Positive integer ids with commas between them.
    Ids,
    /// An integer from 1 to the given one.
    UpTo(u64),
    /// `member,asc` or `member,desc`.
    Sort,
    /// A path segment that is UTF-8 once decoded.
    Utf8,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IP address or host name.
    Address,
    /// A text of so many characters, from and to.
    Length(usize, usize),
    /// The same as the header of this name.
    SameAs(&'static str),
    /// A point in time.
    Time,
    /// A time no later than the parameter of this name, which is the present unless it is given.
    NotAfter(&'static str),
    /// No more than so many days before the end.
    WithinDays(i64),
    /// An integer of this range.
    Between(u64, u64),
    /// The name of a metric.
    Metric,
    /// The name of a label.
    Label,
    /// Labels with their values.
    Labels,
    /// The name of a role.
    Role,
    /// The id of a proxy cluster.
    Cluster,
    /// A list of so many at most.
    AtMost(usize),
    /// No other of the list.
    Once,
}

/// What a body member has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// A text.
    Text,
    /// An integer of this range.
    Integer(i128, i128),
    /// `true` or `false`.
    Bool,
    /// A list.
    List,
    /// A list of so many entries at most.
    AtMost(u64),
    /// An object.
    Object,
    /// One of these words.
    OneOf(Vec<String>),
    /// Something else than it is.
    Other,
}

/// Why an enrolment is not accepted. Which of token and proof is wrong is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrolmentFault {
    /// The token is unknown, used, expired, or the proof was not made with it.
    Token,
    /// The signing request cannot be used.
    Csr,
    /// The host's uid is no plain name.
    HostUid,
}

/// Why a request is nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFault {
    /// There are no credentials.
    Nobody,
    /// The browser's session is over, or was none.
    NoSession,
    /// The signature's header cannot be read.
    Malformed,
    /// A signed request has no date.
    NoDate,
    /// A signed request's date is too far from the server's clock.
    Stale {
        /// That clock, as a date is written.
        now: String,
    },
    /// The access key is unknown, or the signature was not made with its secret. Which of them is not told.
    Signature,
    /// The access key is disabled.
    Disabled,
    /// A change with this signature was made before.
    Used,
}

impl Fault {
    /// The field it is about, if it is about one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Value { name, .. }
            | Self::UnknownMember(name)
            | Self::MissingMember(name)
            | Self::RepeatedMember(name)
            | Self::WrongMember { member: name, .. } => Some(name),
            Self::KeyReused { .. } => Some("Idempotency-Key"),
            _ => None,
        }
    }

    /// What is wrong, as a part of a sentence.
    pub fn text(&self, language: Language) -> String {
        let say = |english: String, chinese: String| language.choose(english, chinese);
        match self {
            Self::Value { name, given, wanted } => {
                let wanted = wanted.text(language);
                say(
                    format!("{name} is '{given}' but must be {wanted}"),
                    format!("参数 {name} 的值 '{given}' 不合法，应为{wanted}"),
                )
            }
            Self::UnknownMember(name) => say(
                format!("The body's member {name} is not known here"),
                format!("请求体中的成员 {name} 无法识别"),
            ),
            Self::MissingMember(name) => say(
                format!("The body's member {name} is missing"),
                format!("请求体缺少成员 {name}"),
            ),
            Self::RepeatedMember(name) => say(
                format!("The body's member {name} is there twice"),
                format!("请求体中的成员 {name} 重复"),
            ),
            Self::WrongMember { member, expected } => {
                let expected = expected.text(language);
                say(
                    format!("The body's member {member} must be {expected}"),
                    format!("请求体中的成员 {member} 应为{expected}"),
                )
            }
            Self::NotJson {
                line,
                column,
                cut_short,
            } => {
                let what = match cut_short {
                    true => language.choose("it ends too early", "内容不完整"),
                    false => language.choose("it goes wrong", "格式错误"),
                };
                say(
                    format!("the body is not JSON ({what} at line {line}, column {column})"),
                    format!("请求体不是合法的 JSON（第 {line} 行第 {column} 列{what}）"),
                )
            }
            Self::ContentType(wanted) => say(
                format!("its Content-Type must be {wanted}"),
                format!("Content-Type 应为 {wanted}"),
            ),
            Self::TooLarge(limit) => say(
                format!("its body is larger than {limit} bytes"),
                format!("请求体超过 {limit} 字节的上限"),
            ),
            Self::BodyBroken => language
                .choose("its body did not arrive completely", "请求体未能完整接收")
                .to_owned(),
            Self::MissingPart(name) => say(
                format!("its multipart body has no part named {name}"),
                format!("multipart 请求体缺少 {name} 部分"),
            ),
            Self::RepeatedPart(name) => say(
                format!("its multipart body has more than one part named {name}, so send them one by one"),
                format!("multipart 请求体中有多个 {name} 部分，请逐个上传"),
            ),
            Self::RangeBeyond(size) => say(
                format!("the file has {size} bytes and ends before the part that is asked for"),
                format!("文件只有 {size} 字节，请求的范围超出其末尾"),
            ),
            Self::NoRoom => language
                .choose(
                    "the disk of its state directory is full; nothing was kept, so make room and send the request again",
                    "状态目录所在磁盘已满，未保存任何内容；请释放空间后重新提交",
                )
                .to_owned(),
            Self::NoRoute { method, path } => say(
                format!("there is no {method} for {path}"),
                format!("{path} 没有 {method} 方法"),
            ),
            Self::KeyReused { task } => say(
                format!(
                    "Idempotency-Key was sent before with another request, the one that made task {task}; a new request \
                     takes a new key"
                ),
                format!("Idempotency-Key 已用于另一个请求（任务 {task}），新的请求需使用新的 Key"),
            ),
            Self::TooManyListeners(most) => say(
                format!(
                    "{most} clients listen to events, and the server takes no more; try again later or read the events in \
                     pages"
                ),
                format!("事件监听者已达上限 {most} 个，请稍后再试或分页读取事件"),
            ),
            Self::TooManyUploads(most) => say(
                format!("{most} uploads are on their way, and the server takes no more at once; try again when Retry-After is over"),
                format!("正在进行的上传已达上限 {most} 个，请在 Retry-After 所示时间后重试"),
            ),
            Self::TooManyRequests(most) => say(
                format!("{most} requests a minute are allowed to one user; go on when Retry-After is over"),
                format!("每个用户每分钟最多 {most} 个请求，请在 Retry-After 所示时间后继续"),
            ),
            Self::NoLease => language
                .choose(
                    "this server has lost its lease on the state database and changes nothing until it has a new one; send \
                     the request again, or to another server",
                    "本服务器已失去状态数据库租约，恢复前不做任何变更；请稍后重试，或改发至其他服务器",
                )
                .to_owned(),
            Self::PackageKeys => language
                .choose(
                    "this server cannot read its directory of package keys and takes no package without; its log has the \
                     reason",
                    "本服务器无法读取安装包公钥目录，在此期间不接受安装包；原因见服务器日志",
                )
                .to_owned(),
            Self::Stopping => language
                .choose(
                    "this server is stopping and changes nothing any more; send the request to another server, or again once \
                     it has started",
                    "本服务器正在停止，不再做任何变更；请改发至其他服务器，或在其启动后重试",
                )
                .to_owned(),
            Self::Enrolment(fault) => fault.text(language).to_owned(),
            Self::Login(fault) => fault.text(language),
            Self::OtherSite => language
                .choose(
                    "another site may have made the browser send it; a login comes from this site's own pages, and a change \
                     repeats the cookie XSRF-TOKEN in the header X-XSRF-TOKEN",
                    "请求可能由其他站点触发；登录须来自本站页面，变更须在请求头 X-XSRF-TOKEN 中携带 Cookie XSRF-TOKEN 的值",
                )
                .to_owned(),
        }
    }
}

impl Wanted {
    fn text(self, language: Language) -> String {
        let fixed = |english: &str, chinese: &str| language.choose(english, chinese).to_owned();
        match self {
            Self::Id => fixed("a positive integer id", "正整数 ID"),
            Self::Ids => fixed("positive integer ids with commas between them", "以逗号分隔的正整数 ID"),
            Self::UpTo(most) => language.choose(
                format!("an integer from 1 to {most}"),
                format!(" 1 至 {most} 之间的整数"),
            ),
            Self::Sort => fixed(
                "a member of the list's entries, then ,asc or ,desc",
                "“成员名,asc”或“成员名,desc”",
            ),
            Self::Utf8 => fixed("valid UTF-8", "合法的 UTF-8 文本"),
            Self::OneOf(words) => language.choose(
                format!("one of {}", words.join(", ")),
                format!("以下之一：{}", words.join("、")),
            ),
            Self::Length(least, most) => language.choose(
                format!("a printable text of {least} to {most} characters"),
                format!("长度为 {least} 至 {most} 的可打印文本"),
            ),
            Self::SameAs(header) => language.choose(
                format!("the same as the header {header}, or left out"),
                format!("与请求头 {header} 相同，或省略"),
            ),
            Self::Time => fixed(
                "a time with an offset, such as 2026-11-29T08:00:00+08:00",
                "带时区偏移的时间，例如 2026-11-29T08:00:00+08:00",
            ),
            Self::NotAfter(other) => language.choose(
                format!("no later than {other}, which is the present unless it is given"),
                format!("不晚于 {other} 的时间（未指定 {other} 时为当前时间）"),
            ),
            Self::WithinDays(days) => language.choose(
                format!("at most {days} days before the end"),
                format!("距结束时间不超过 {days} 天的时间"),
            ),
            Self::Between(least, most) => language.choose(
                format!("an integer from {least} to {most}"),
                format!(" {least} 至 {most} 之间的整数"),
            ),
            Self::Metric => fixed(
                "names of metrics that /api/v2/monitor/metricGroups lists, with commas between them",
                "/api/v2/monitor/metricGroups 中列出的监控项名称，以逗号分隔",
            ),
            Self::Label => fixed(
                "names of labels, such as obproxy_cluster, obproxy or sqlType, with commas between them",
                "标签名，例如 obproxy_cluster、obproxy 或 sqlType，以逗号分隔",
            ),
            Self::Labels => fixed(
                "pairs of label and value, such as obproxy_cluster:test, with commas between them",
                "“标签:值”，例如 obproxy_cluster:test，以逗号分隔",
            ),
            Self::Role => fixed("a role that /api/v2/iam/roles lists", "/api/v2/iam/roles 中列出的角色"),
            Self::Cluster => fixed("the id of a proxy cluster", "已有 OBProxy 集群的 ID"),
            Self::AtMost(most) => {
                language.choose(format!("a list of {most} at most"), format!("不超过 {most} 项的数组"))
            }
            Self::Once => fixed("named once", "不重复的值"),
            Self::Address => fixed("an IP address or host name", "IP 地址或主机名"),
        }
    }
}

impl Expected {
    fn text(&self, language: Language) -> String {
        let fixed = |english: &str, chinese: &str| language.choose(english, chinese).to_owned();
        match self {
            Self::Text => fixed("a text", "字符串"),
            Self::Integer(least, most) => language.choose(
                format!("an integer from {least} to {most}"),
                format!(" {least} 至 {most} 之间的整数"),
            ),
            Self::Bool => fixed("true or false", " true 或 false"),
            Self::List => fixed("a list", "数组"),
            Self::AtMost(most) => {
                language.choose(format!("a list of {most} at most"), format!("不超过 {most} 项的数组"))
            }
            Self::Object => fixed("an object", "对象"),
            Self::OneOf(words) => language.choose(
                format!("one of {}", words.join(", ")),
                format!("以下之一：{}", words.join("、")),
            ),
            Self::Other => fixed("of another type", "其他类型"),
        }
    }
}

impl LoginFault {
    fn text(&self, language: Language) -> String {
        let fixed = |english: &str, chinese: &str| language.choose(english, chinese).to_owned();
        match self {
            Self::Nobody => fixed(
                "send user and password with HTTP Basic authentication, or sign the request with an access key",
                "请使用 HTTP Basic 认证提供用户名和密码，或使用访问密钥（AK/SK）对请求签名",
            ),
            Self::NoSession => fixed(
                "the browser's session is over, so log in again",
                "浏览器会话已失效，请重新登录",
            ),
            Self::Malformed => fixed(
                "the Authorization header must be OCP-ACCESS-KEY-HMACSHA1, a space, the access key, a colon and the \
                 signature in Base64",
                "Authorization 请求头应为 OCP-ACCESS-KEY-HMACSHA1、一个空格、访问密钥、冒号和 Base64 编码的签名",
            ),
            Self::NoDate => fixed(
                "a signed request needs a Date or x-ocp-date header such as Tue, 17 Jan 2023 03:36:01 GMT",
                "签名的请求需带 Date 或 x-ocp-date 请求头，例如 Tue, 17 Jan 2023 03:36:01 GMT",
            ),
            Self::Stale { now } => language.choose(
                format!("the signed date must be less than 15 minutes from the server's clock, which says {now}"),
                format!("签名中的时间与服务器时间（{now}）相差须小于 15 分钟"),
            ),
            Self::Signature => fixed(
                "the access key is unknown or the signature does not match; check key, secret, and what is signed",
                "访问密钥不存在或签名不匹配，请检查 AK、SK 以及待签名的内容",
            ),
            Self::Disabled => fixed("the access key is disabled", "该访问密钥已停用"),
            Self::Used => fixed(
                "a change with this signature was made before; sign the request anew, with the present date",
                "该签名已用于一次变更，请以当前时间重新签名",
            ),
        }
    }
}

impl EnrolmentFault {
    fn text(self, language: Language) -> &'static str {
        match self {
            Self::Token => language.choose(
                "the enrolment token is wrong, used or expired, so create a new one",
                "注册令牌无效、已使用或已过期，请创建新的令牌",
            ),
            Self::Csr => language.choose(
                "csrPem is not a certificate signing request that can be used",
                "csrPem 不是可用的证书签名请求",
            ),
            Self::HostUid => language.choose(
                "hostUid takes 1 to 63 lower case letters, digits and hyphens",
                "hostUid 只能包含 1 至 63 个小写字母、数字和连字符",
            ),
        }
    }
}
