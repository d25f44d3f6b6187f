//! Who asked may be killed while he waits for the cloud. The kernel lets him go only when his request is answered, and `fuser` does not
//! hand on its INTERRUPT: so we look whether he has a SIGKILL pending. (A signal that ends a program, as Ctrl-C, becomes one.)

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);

/// Returns when the thread `id` is being killed.
pub(super) async fn killed(id: u32, clock: Arc<dyn Clock>) {
    let status = format!("/proc/{id}/status");
    loop {
        clock.sleep(LOOK_EVERY).await;
        // Of one that can't be seen from here (another namespace, the kernel's own) nothing is known.
        if std::fs::read_to_string(&status).is_ok_and(|status| is_being_killed(&status)) {
            return;
        }
    }
}

/// Whether a `/proc/…/status` shows a pending SIGKILL.
fn is_being_killed(status: &str) -> bool {
    let masks = status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")));
    masks
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & SIGKILL_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pending_sigkill_counts() {
        let status = |own, shared| {
            format!("Name:\tls\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n")
        };
        let none = "0000000000000000";
        assert!(is_being_killed(&status("0000000000000100", none)));
        assert!(is_being_killed(&status(none, "0000000000000102")));
        assert!(!is_being_killed(&status(none, "0000000000000002")));
        assert!(!is_being_killed(""));
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(own.contains("ShdPnd:") && !is_being_killed(&own));
    }
}
