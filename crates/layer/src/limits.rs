//! How much of a layer we put up with.

/// What becomes of device nodes in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// They are made; right for an engine that runs as root of the machine.
    Create,
    /// They are an error; right wherever mknod(2) is not ours to do.
    Refuse,
}

/// Bounds of one layer. The defaults are far above what honest images have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries of the tar.
    pub entries: u64,
    /// Length of the uncompressed tar, and of any one file in it, holes included.
    pub tar_bytes: u64,
    /// So much may come out of any input; beyond it [`Limits::inflation`] counts.
    pub free_bytes: u64,
    /// Uncompressed bytes per compressed byte. Deflate reaches 1032, ordinary layers 2 to 20.
    pub inflation: u64,
    /// Length of one header's extension (PAX records, long name, sparse map). Go's and so containerd's bound.
    pub extension_bytes: u64,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Length of a path or of a link's target; the kernel's PATH_MAX with its NUL.
    pub path_bytes: usize,
    /// Directories above an entry; each is an open handle of ours.
    pub depth: usize,
    /// Memory for what has to be remembered until the end: directories, whiteouts, implied parents.
    pub memory_bytes: usize,
    /// Base-2 logarithm of the largest zstd window; 27 is what `zstd -d` accepts.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 5_000_000,
            tar_bytes: 1 << 40,
            free_bytes: 16 << 30,
            inflation: 200,
            extension_bytes: 1 << 20,
            xattrs: 256,
            path_bytes: 4095,
            depth: 256,
            memory_bytes: 64 << 20,
            zstd_window_log: 27,
        }
    }
}

/// How a layer is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackOptions {
    /// What becomes of device nodes.
    pub devices: Devices,
    /// Bounds.
    pub limits: Limits,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self { devices: Devices::Create, limits: Limits::default() }
    }
}
