//! Bounds on what a package may make us read, hold or write.

/// Bounds that a package must keep; everything beyond them is refused before it costs memory or disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the package file.
    pub package_bytes: u64,
    /// Bytes of each of the two headers.
    pub header_bytes: u64,
    /// Files, directories and links that the header lists.
    pub entries: usize,
    /// Bytes of one unpacked file.
    pub file_bytes: u64,
    /// Bytes of the unpacked payload, skipped files included.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// An OBProxy package holds three files: about 8 MB packed and 60 MB unpacked, several hundred MB with debug
    /// information. The defaults leave a wide margin and still keep a hostile package from filling a host.
    fn default() -> Self {
        Self {
            package_bytes: 1 << 30,
            header_bytes: 8 << 20,
            entries: 4096,
            file_bytes: 1 << 30,
            total_bytes: 2 << 30,
        }
    }
}
