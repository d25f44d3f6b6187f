//! The hooks in force. A folder that changes takes the place of what was read of it before, without a restart; one that can't be used
//! does not, and says so.
//!
//! Invariant: what a hook sees (its shares and globs) is as it was at the start: gates hold back by it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::read_hook;
use super::rules::Rule;
use super::worker::Worker;
use crate::clock::Clock;
use crate::tasks::Tasks;
use crate::types::chain;

/// How often folders are looked at. What changed is read when it has not changed for so long.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The hooks in force.
#[derive(Debug)]
pub(super) struct Rules {
    now: RwLock<Arc<[Rule]>>,
    /// What is wrong with folders as they are now, by the names of hooks.
    unusable: Mutex<BTreeMap<String, String>>,
}

impl Rules {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self { now: RwLock::new(rules.into()), unusable: Mutex::default() }
    }

    /// Those of this moment.
    pub(super) fn now(&self) -> Arc<[Rule]> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn unusable(&self) -> BTreeMap<String, String> {
        self.unusable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, rule: Rule) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        let name = rule.hook.name().to_owned();
        let replaced = now.iter().map(|old| if old.hook.name() == name { &rule } else { old });
        *now = replaced.cloned().collect();
    }

    fn note(&self, name: &str, problem: Option<String>) {
        let mut unusable = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => drop(unusable.insert(name.to_owned(), problem)),
            None => drop(unusable.remove(name)),
        }
    }
}

/// What a folder looks like from outside.
type Look = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

fn look(folder: &Path) -> Look {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let seen = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some((entry.path(), (metadata.modified().ok(), metadata.len())))
    });
    seen.collect()
}

/// Looks at the folders for as long as the daemon runs.
pub(super) async fn watch(
    rules: Arc<Rules>,
    worker: Arc<Worker>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
) {
    let folders: Vec<_> = rules.now().iter().filter_map(|rule| rule.origin.clone()).collect();
    let look_at_all = move || folders.iter().map(|(folder, _)| look(folder)).collect::<Vec<_>>();
    let looks = || tasks.blocking(look_at_all.clone());
    let Ok(mut used) = looks().await else { return };
    let mut before = used.clone();
    loop {
        tokio::select! {
            () = tasks.cancelled() => return,
            () = clock.sleep(LOOK_EVERY) => {}
        }
        let Ok(now) = looks().await else { return };
        let all = rules.now();
        let with_folder = all.iter().filter(|rule| rule.origin.is_some());
        for (at, rule) in with_folder.enumerate() {
            if now[at] != used[at] && now[at] == before[at] {
                used[at].clone_from(&now[at]);
                reload(&rules, rule, &worker, &tasks).await;
            }
        }
        before = now;
    }
}

async fn reload(rules: &Rules, old: &Rule, worker: &Worker, tasks: &Tasks) {
    let name = old.hook.name();
    match read_again(rules, old, worker, tasks).await {
        Ok(None) => rules.note(name, None),
        Ok(Some(new)) => {
            let version = new.hook.version().as_str().to_owned();
            tracing::info!(
                hook = name,
                version,
                "the folder of a hook has changed: what arrives now is looked at by the new version"
            );
            rules.put(new);
            rules.note(name, None);
        }
        Err(problem) => {
            tracing::error!(
                hook = name,
                problem,
                "the folder of a hook has changed, and can't be used: the version before goes on"
            );
            rules.note(name, Some(problem));
            // The worker may have let go of it.
            worker.load(old.hook.clone());
        }
    }
}

/// The hook as its folder is now, if that is another version, and good.
async fn read_again(
    rules: &Rules,
    old: &Rule,
    worker: &Worker,
    tasks: &Tasks,
) -> Result<Option<Rule>, String> {
    let Some((folder, params)) = old.origin.clone() else { return Ok(None) };
    let read = tasks.blocking(move || read_hook(&folder, &params)).await;
    let hook = read.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
    if hook.version() == old.hook.version() {
        return Ok(None);
    }
    if hook.name() != old.hook.name() {
        return Err(format!("it calls itself {} now: that takes a restart", hook.name()));
    }
    let mut new = old.clone();
    new.hook = Arc::new(hook);
    new.check().map_err(|error| error.to_string())?;
    let name = old.hook.name();
    let with_new: Vec<_> = rules
        .now()
        .iter()
        .map(|rule| if rule.hook.name() == name { &new } else { rule })
        .cloned()
        .collect();
    super::check::refuse_loops(&with_new).map_err(|error| error.to_string())?;
    worker.try_load(new.hook.clone()).await.map_err(|error| chain(&error))?;
    Ok(Some(new))
}
