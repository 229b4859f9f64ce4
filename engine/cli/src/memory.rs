//! How much memory there is.

/// The memory of this machine, in bytes, where the system tells.
#[cfg(target_os = "linux")]
pub fn machine_bytes() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(info.totalram.saturating_mul(info.mem_unit.into()))
}

/// Other systems have other ways.
#[cfg(not(target_os = "linux"))]
pub fn machine_bytes() -> Option<u64> {
    None
}
