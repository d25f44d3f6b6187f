//! Tasks that are named, counted and joined. A panic in one is reported by name.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The threads for what programs wait for.
///
/// # Errors
/// If threads can't be started.
pub fn foreground() -> std::io::Result<Runtime> {
    runtime("fsd").build()
}

/// The threads for what nobody waits for: where cores are short, they stand back.
///
/// # Errors
/// If threads can't be started.
pub fn background() -> std::io::Result<Runtime> {
    runtime("fsd-back").on_thread_start(stand_back).build()
}

fn runtime(thread_name: &str) -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name(thread_name).enable_all();
    builder
}

/// Lowers the priority of this thread.
fn stand_back() {
    const NICE: libc::c_int = 10;
    #[expect(unsafe_code, reason = "nix has no priorities")]
    // SAFETY: the call takes numbers only. To Linux, 0 is the calling thread.
    let lowered = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    if let Err(error) = nix::Error::result(lowered) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}

/// Where a part starts its tasks. Clones start into the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    handle: Handle,
    tracker: TaskTracker,
    token: CancellationToken,
    /// What blocks runs where it is asked for.
    in_place: bool,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Tasks {
    /// A set of tasks on the runtime of `handle`.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            tracker: TaskTracker::new(),
            token: CancellationToken::new(),
            in_place: false,
            running: Arc::default(),
        }
    }

    /// The same set, where [`Tasks::blocking`] has no thread of its own: on a runtime of one thread all happens in one order then, which a
    /// simulation can repeat.
    #[must_use]
    pub fn in_place(self) -> Self {
        Self { in_place: true, ..self }
    }

    /// Starts a task. A task with unbounded work listens to [`Tasks::cancelled`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(name, self.running.clone());
        let task = self.handle.spawn(async move {
            let _counted = counted;
            task.await;
        });
        self.tracker.spawn_on(
            async move {
                if let Err(error) = task.await
                    && error.is_panic()
                {
                    tracing::error!(task = name, "a task panicked");
                }
            },
            &self.handle,
        );
    }

    /// Starts work that blocks its thread, on the pool of the runtime.
    pub fn spawn_blocking(&self, name: &'static str, work: impl FnOnce() + Send + 'static) {
        let counted = Counted::new(name, self.running.clone());
        let work = move || {
            let _counted = counted;
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!(task = name, "a task panicked");
            }
        };
        self.tracker.spawn_blocking_on(work, &self.handle);
    }

    /// The same set, whose new tasks run on the runtime of `handle`.
    #[must_use]
    pub fn on(&self, handle: Handle) -> Self {
        Self { handle, ..self.clone() }
    }

    /// Runs blocking work on the pool of the runtime that the caller runs on, and waits for it.
    ///
    /// # Errors
    /// If the work panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<T> {
        if self.in_place {
            // As while another thread begins, others have their turn first.
            tokio::task::yield_now().await;
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
    }

    /// The runtime, for what must enter it.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Resolves when the tasks are asked to stop.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Asks all tasks to stop and waits; names those that are late.
    pub async fn shutdown(&self, patience: Duration) {
        self.token.cancel();
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tracing::warn!(?running, "tasks did not stop in time");
        }
    }
}

struct Counted(&'static str, Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Counted {
    fn new(name: &'static str, running: Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *running.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self(name, running)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.0) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.0);
            }
        }
    }
}
