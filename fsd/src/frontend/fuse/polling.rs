//! Busy polling. To wake a sleeping processor takes longer, on a virtual machine several times, than most requests take to answer. So
//! while requests come one after the other, the session's thread asks for the next one at once instead of going to sleep.
//!
//! The device is read without waiting for as long as that lasts; fuser tries again when nothing is there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::clock::Clock;

/// Requests that follow each other within [`GAP_MAX`] before it begins.
const REQUESTS_LEAST: u32 = 8;
const GAP_MAX: Duration = Duration::from_micros(300);
/// Between two looks whether it still lasts: what a pause costs at most.
const LOOK: Duration = Duration::from_millis(1);
/// After the processors were found busy so many times in succession: then there is none to keep awake.
const BUSY_LOOKS: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Whether the session's thread polls.
#[derive(Debug)]
pub(super) struct Polling {
    clock: Arc<dyn Clock>,
    device: OnceLock<OwnedFd>,
    on: AtomicBool,
    /// Requests that followed each other.
    streak: AtomicU32,
    /// When the last request came, and until when there is no polling: nanoseconds of the clock.
    last: AtomicU64,
    paused: AtomicU64,
    begin: SyncSender<()>,
}

impl Polling {
    /// Polls nothing until [`Polling::start`].
    pub(super) fn new(clock: Arc<dyn Clock>) -> (Arc<Self>, Receiver<()>) {
        let (begin, begun) = sync_channel(1);
        let polling = Self {
            clock,
            device: OnceLock::new(),
            on: AtomicBool::new(false),
            streak: AtomicU32::new(0),
            last: AtomicU64::new(0),
            paused: AtomicU64::new(0),
            begin,
        };
        (Arc::new(polling), begun)
    }

    /// Takes the session's device; `begun` as [`Polling::new`] gave it.
    ///
    /// # Errors
    /// If there can be no thread that looks when it has lasted long enough.
    pub(super) fn start(
        self: &Arc<Self>,
        device: impl AsFd,
        begun: Receiver<()>,
    ) -> std::io::Result<()> {
        // On a single processor it would keep the one that asks from asking.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if processors == 1 {
            return Ok(());
        }
        let polling = Arc::downgrade(self);
        std::thread::Builder::new().name("fuse.polling".into()).spawn(move || {
            for () in begun {
                let mut busy = 0;
                loop {
                    std::thread::sleep(LOOK);
                    let Some(polling) = polling.upgrade() else { return };
                    busy = if running() > processors { busy + 1 } else { 0 };
                    if polling.ends(busy >= BUSY_LOOKS) {
                        break;
                    }
                }
            }
        })?;
        // The flag belongs to the open file, which both descriptors name.
        let device = device.as_fd().try_clone_to_owned()?;
        self.device.get_or_init(|| device);
        Ok(())
    }

    /// A request came.
    pub(super) fn seen(&self) {
        let now = self.nanos();
        let gap = now.saturating_sub(self.last.swap(now, Ordering::Relaxed));
        if self.on.load(Ordering::Relaxed) {
            return;
        }
        if gap > nanos(GAP_MAX) {
            self.streak.store(0, Ordering::Relaxed);
        } else if self.streak.fetch_add(1, Ordering::Relaxed) >= REQUESTS_LEAST
            && now >= self.paused.load(Ordering::Relaxed)
            && self.set(true)
        {
            // If the thread has not yet taken the last one, it is awake.
            let _ = self.begin.try_send(());
        }
    }

    /// Ends it if no request came for a while, or others need the processors.
    fn ends(&self, busy: bool) -> bool {
        let now = self.nanos();
        let quiet = now.saturating_sub(self.last.load(Ordering::Relaxed)) > nanos(GAP_MAX);
        if busy {
            self.paused.store(now.saturating_add(nanos(BUSY_PAUSE)), Ordering::Relaxed);
        }
        if quiet || busy {
            self.streak.store(0, Ordering::Relaxed);
            self.set(false);
        }
        quiet || busy
    }

    fn set(&self, on: bool) -> bool {
        let Some(device) = self.device.get() else { return false };
        let flags = if on { OFlag::O_RDWR | OFlag::O_NONBLOCK } else { OFlag::O_RDWR };
        let set = fcntl(device, FcntlArg::F_SETFL(flags)).is_ok();
        self.on.store(on && set, Ordering::Relaxed);
        set
    }

    fn nanos(&self) -> u64 {
        nanos(self.clock.monotonic())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How many threads of the machine run or wait for a processor, ours aside; proc(5), loadavg.
fn running() -> usize {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = load.split(' ').nth(3).and_then(|counts| counts.split_once('/'));
    running
        .and_then(|(running, _)| running.parse::<usize>().ok())
        .map_or(0, |n| n.saturating_sub(1))
}
