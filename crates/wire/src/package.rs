//! Software packages: answers of `/api/v2/software-packages`.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// An uploaded package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SoftwarePackage {
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Build number without the operating system.
    pub build_number: String,
    /// When it was uploaded.
    pub create_time: Timestamp,
    /// Whether nothing uses it.
    pub deletable: bool,
    /// Where to fetch it.
    pub download_url: String,
    /// `rpm`.
    pub extension: String,
    /// `obproxy-ce-4.3.1.0-1.el7.x86_64.rpm`, made from the header.
    pub file_name: String,
    /// The package's id.
    pub id: i64,
    /// Always empty, as in OCP's examples.
    pub installation_data_list: Vec<serde_json::Value>,
    /// Package name.
    pub name: String,
    /// Operating system tag, `el7`.
    pub operating_system: String,
    /// SHA-1 of the file, hexadecimal.
    pub sha1: String,
    /// *Extension*: SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// *Extension*: fingerprint of the trusted key that signed it, hexadecimal in capitals; null where the server asked for no
    /// signature when it was uploaded.
    pub signed_by: Option<String>,
    /// Bytes.
    pub size: u64,
    /// OBPROXY_INSTALL_PACKAGE; packages of other known names have OCP's words, any other is OTHERS_RPM.
    #[serde(rename = "type")]
    pub package_type: String,
    /// Version without the build.
    pub version: String,
}
