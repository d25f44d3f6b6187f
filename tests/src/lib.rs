//! What several test binaries share.

pub mod drive;
pub mod files;
mod level;
pub mod listeners;
pub mod proxy;
pub mod servers;
pub mod sim;
pub mod store;
pub mod tls;

use std::time::Duration;

/// Looks until `is_so`, for a while that is long enough on any machine.
///
/// # Errors
/// What `is_so` says, or that it never was.
pub fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    const LOOKS: u32 = 3000;
    for _ in 0..LOOKS {
        if is_so()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("never: {what}")
}
