//! Proxies on the agent's host that somebody else installed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use obfleet_standin::{
    Faults, Trailer,
    foreign::{Foreign, Order, Tool},
    pack,
    ports::PortLease,
};
use tempfile::TempDir;

use crate::host::{OLD, node};

pub const PASSWORD: &str = "Foreign-s3cret1";

/// One that has not been started; the files of all of them lie below a directory that anybody may enter.
pub struct Stranger {
    pub order: Order,
    dir: TempDir,
    _ports: [PortLease; 3],
}

impl Stranger {
    /// In this home below its directory.
    pub fn new(home: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ports = [(); 3].map(|()| PortLease::take().unwrap());
        let binary = dir.path().join("packed");
        pack_version(OLD, &binary);
        let order = Order {
            binary,
            home: dir.path().join(home),
            sql_port: ports[0].port(),
            exporter_port: ports[1].port(),
            rpc_port: ports[2].port(),
            root_servers: "127.0.0.1:2881".into(),
            ob_cluster: "ob1".into(),
            password: PASSWORD.into(),
            items: vec![("proxy_mem_limited".into(), "1G".into())],
            user: None,
        };
        fs::create_dir_all(&order.home).unwrap();
        Self {
            order,
            dir,
            _ports: ports,
        }
    }

    /// Its executable is a link to a repository, as obd has it.
    pub fn linked(self) -> Self {
        let bin = self.order.home.join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(&self.order.binary, bin.join("obproxy")).unwrap();
        self
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn start(&self, tool: Tool) -> Foreign {
        Foreign::start(tool, &self.order).unwrap()
    }
}

/// Makes a stand-in of the version.
pub fn pack_version(version: &str, to: &Path) {
    let (dotted, build) = version.split_once('-').unwrap();
    let trailer = Trailer {
        version: dotted.into(),
        release: format!("{build}.el7"),
        faults: Faults::default(),
        fake_backend: true,
    };
    pack(&node(), &trailer, to).unwrap();
}
