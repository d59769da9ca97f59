//! What a refusal is about, where a name or a number alone does not tell: things and reasons. The server has the words
//! for them, in each language.

use std::fmt;

use crate::agent::Obstacle;

/// One argument of a refusal's sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// A name, number or status: the same in every language.
    Text(String),
    /// Something the fleet has.
    Thing(Thing),
    /// Why the request cannot be done as it is.
    Reason(Reason),
}

impl fmt::Display for Arg {
    /// For logs; clients are told by the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Thing(thing) => write!(f, "{thing:?}"),
            Self::Reason(reason) => write!(f, "{reason:?}"),
        }
    }
}

impl From<Thing> for Arg {
    fn from(thing: Thing) -> Self {
        Self::Thing(thing)
    }
}

impl From<Reason> for Arg {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl<T: fmt::Display + ?Sized> From<&T> for Arg {
    fn from(text: &T) -> Self {
        Self::Text(text.to_string())
    }
}

/// Something the fleet has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// The kind, without one of them in mind.
    ClusterKind,
    /// Regions, without one of them in mind.
    RegionKind,
    /// IDCs, without one of them in mind.
    IdcKind,
    /// Host types, without one of them in mind.
    HostTypeKind,
    /// Access keys, without one of them in mind.
    AccessKeyKind,
    /// Users, without one of them in mind.
    UserKind,
    /// Roles, without one of them in mind.
    RoleKind,
    /// So many users.
    Users(i64),
    /// Log files of proxies, without one of them in mind.
    LogFileKind,
    /// IDCs, by their ids.
    Idcs(String),
    /// The address of a host that is being added.
    HostAddress(String),
    /// A credential, by its id.
    Credential(String),
    /// Hosts, without one of them in mind.
    HostKind,
    /// Hosts, by their ids.
    Hosts(String),
    /// Proxy servers, by their ids.
    Proxies(String),
    /// A proxy cluster, by its id.
    Cluster(String),
    /// The name of a proxy cluster.
    ClusterName(String),
    /// A registered OceanBase cluster: the kind, without one of them in mind.
    ObClusterKind,
    /// A registered OceanBase cluster, by its id.
    ObCluster(String),
    /// A link to an OceanBase cluster: the kind, without one of them in mind.
    ObLinkKind,
    /// The links of a proxy cluster, by its id.
    ObLinks(String),
    /// A proxy server, by its id.
    Proxy(String),
    /// A proxy server on the host in question, by its id, and a port of its.
    ProxyOnPort {
        /// The proxy server.
        proxy: i64,
        /// The port.
        port: u16,
    },
    /// A port of a host.
    HostPort {
        /// The host's id.
        host: String,
        /// The port.
        port: String,
    },
    /// A task, by its id.
    Task(String),
    /// A file that is no package: what it looks like, in English.
    OtherFile(&'static str),
    /// Anything else, by its technical name.
    Other(String),
}

/// Why a request cannot be done as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A list needs at least one entry.
    Empty,
    /// A text for people that has the wrong length, control characters, or spaces at its ends.
    TextForm {
        /// Fewest characters.
        least: usize,
        /// Most characters.
        most: usize,
    },
    /// A list with too many entries.
    TooMany {
        /// Entries it has.
        given: usize,
        /// Entries it may have.
        most: usize,
    },
    /// It is for one host only, and several are given.
    ForOneHost,
    /// What is no port.
    NoPort,
    /// What is no IP address.
    NoAddress,
    /// What is no fingerprint of a host key.
    NoFingerprint,
    /// It takes the hosts that name no other.
    ForNewHosts,
    /// An id that another list of the request does not have.
    NotAmong {
        /// The id.
        id: i64,
        /// The other list's name.
        list: &'static str,
    },
    /// A credential without a password or key.
    SecretNeeded,
    /// What is no text of a private key.
    NoPrivateKey,
    /// The passphrase of a key where there is no key.
    NoKey,
    /// The version to install is not given.
    VersionNeeded,
    /// A package that holds no OBProxy.
    NoProxyPackage {
        /// The package.
        package: String,
    },
    /// An upgrade to what is not higher.
    NotHigher {
        /// The package.
        package: String,
        /// The version that runs.
        version: String,
        /// The proxy server that runs it.
        proxy: i64,
    },
    /// A port out of range.
    PortRange(u16),
    /// A port given twice.
    PortTwice(u16),
    /// RS_LIST with another number of obLinks than one.
    OneLink {
        /// How many were given.
        given: usize,
    },
    /// RS_LIST without root servers.
    NoRootServers,
    /// A root server that is neither `ip:sqlport` nor `ip:rpcport:sqlport`.
    RootServerForm(String),
    /// More root servers than a cluster may have.
    TooManyRootServers {
        /// How many it may have.
        limit: usize,
    },
    /// Root servers that are not those the OceanBase cluster is registered with.
    OtherRootServers {
        /// The OceanBase cluster.
        name: String,
        /// The id it is registered under.
        id: i64,
    },
    /// An OceanBase cluster that is not registered, named where it must be.
    UnknownObCluster {
        /// What was asked for.
        asked: String,
    },
    /// A link whose OceanBase cluster is given by neither name nor id.
    ObClusterNeeded,
    /// A name that breaks the rule for names of OceanBase clusters.
    ObClusterNameForm,
    /// A cluster_id no OceanBase cluster can have.
    ObClusterIdRange(i64),
    /// Several OceanBase clusters of one name cannot be told apart.
    ObClusterIdNeeded {
        /// The name.
        name: String,
    },
    /// A second PRIMARY of one name.
    SecondPrimary {
        /// The name.
        name: String,
        /// The id of the one that is registered.
        id: i64,
    },
    /// An OceanBase cluster named twice.
    LinkedTwice {
        /// Its name.
        name: String,
    },
    /// Links of an RS_LIST cluster cannot be changed.
    FixedLink,
    /// No OceanBase cluster is registered.
    NoObClusters,
    /// The last link of a cluster with proxies.
    LastLink {
        /// The OceanBase cluster.
        name: String,
    },
    /// More passwords of proxyro than a proxy keeps.
    TooManyProxyroPasswords,
    /// An OceanBase cluster that proxy clusters serve.
    Served {
        /// One of them.
        by: String,
    },
    /// A parameter that follows from the cluster's work mode.
    FollowsFromWorkMode {
        /// Its name.
        name: String,
    },
    /// A name that breaks the rule for names of clusters.
    ClusterNameForm,
    /// The task would carry more than fits.
    ContextTooLarge {
        /// Bytes it would have.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// A parameter that nobody knows.
    ParameterUnknown(String),
    /// A parameter that is given twice.
    ParameterTwice(String),
    /// A parameter that a proxy's version does not have.
    ParameterNotThere {
        /// The parameter.
        name: String,
        /// The proxy server.
        proxy: i64,
        /// Its version.
        version: String,
    },
    /// A value that is not written as the parameter's type.
    ParameterType {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// The type, in English.
        wanted: String,
    },
    /// A value out of the parameter's bounds.
    ParameterRange {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// The bounds, `[1s,1h]`.
        range: String,
    },
    /// A value that cannot be sent to a proxy.
    ParameterText {
        /// Characters it may have.
        longest: usize,
    },
    /// Nothing drifts of what was asked for.
    NoDrift,
    /// A task that stands FAILED in its rollback.
    RollbackStopped,
    /// A task that is paused.
    Paused,
    /// A task that is being cancelled.
    Canceling,
    /// A task that was abandoned.
    Abandoned,
    /// A task that failed and went back by itself.
    RolledBack,
    /// A proxy that cannot be taken over as things are.
    NotTakenOver {
        /// Its host.
        host: String,
        /// Its SQL port.
        port: u16,
        /// What is in the way, of what was found first.
        obstacle: Box<Obstacle>,
    },
    /// What the request is about has changed since it was looked at.
    ChangedMeanwhile,
    /// A package that does not keep to RPM's form: where, in English.
    Malformed(String),
    /// A package whose content differs from its own digests.
    Damaged,
    /// A package without a signature, where one is asked for.
    Unsigned,
    /// A package signed by a key that is not trusted: its fingerprint or id, empty where the signature names none.
    UnknownSigner(String),
    /// A package with a signature that cannot be read: why, in English.
    UnreadableSignature(String),
    /// A package whose signature was not made for this content by the key it names.
    BadSignature {
        /// The key.
        key: String,
    },
    /// A package signed over a digest, or vouched for by digests, that can be forged.
    WeakSignature {
        /// The key.
        key: String,
    },
    /// A package signed by a key that its owner has revoked.
    RevokedSigner {
        /// The key.
        key: String,
    },
    /// A package signed when the key was not valid.
    SignerNotValid {
        /// The key.
        key: String,
    },
    /// A package signed by a key that is for something else.
    SignerNotForSigning {
        /// The key.
        key: String,
    },
    /// A package whose signature is over, or from the future.
    SignatureNotNow {
        /// The key.
        key: String,
    },
    /// A package of OBProxy's name without its executable.
    NoExecutable,
    /// A package, or something in it, is too large.
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// A package lists too many files.
    TooManyFiles {
        /// Files it lists.
        files: usize,
        /// Files allowed.
        limit: usize,
    },
    /// A package holds a name or link that leads out of its directory, or something else than files, directories and
    /// links.
    UnsafeFile(String),
}

impl Reason {
    /// Whether the request is fine in itself, and at odds with what there is: it may be sent again when that has changed.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::OtherRootServers { .. }
                | Self::SecondPrimary { .. }
                | Self::LastLink { .. }
                | Self::Served { .. }
                | Self::NotTakenOver { .. }
        )
    }
}
