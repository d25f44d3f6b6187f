//! The verbs that steer hooks.

use std::path::PathBuf;
use std::sync::Arc;

use policies::search::{Search, SearchError};

use super::OperationError;
use super::gateway::{Gateway, api_engine, is_at_or_below, timestamp_of_millis};
use super::sides::path_in;
use crate::control::api::hooks as asked;
use crate::control::api::types as api;
use crate::hooks::{Rule, begin, field_of};
use crate::meta::{Job, MetaError, Tx};
use crate::types::{FileKind, Ino, chain};

/// Results that are looked at in one go.
const JOBS_AT_ONCE: usize = 1000;

impl Gateway {
    /// The hooks in force.
    pub(super) fn rules(&self) -> Arc<[Rule]> {
        self.parts.hooks.as_ref().map_or_else(|| [].into(), |hooks| hooks.rules())
    }

    pub(super) fn check_hook(&self, name: &str) -> Result<(), OperationError> {
        let no_hook = || OperationError::NoHook { name: name.to_owned() };
        let found = self.rules().iter().any(|rule| rule.hook.name() == name);
        found.then_some(()).ok_or_else(no_hook)
    }

    pub(super) fn have_hooks_rest(&self, pause: &asked::HookPause) -> Result<(), OperationError> {
        let names = match &pause.hook {
            Some(name) => {
                self.check_hook(name)?;
                vec![name.clone()]
            }
            None => self.rules().iter().map(|rule| rule.hook.name().to_owned()).collect(),
        };
        let paused = pause.paused;
        self.parts.meta.write(move |tx| -> Result<(), MetaError> {
            names.iter().try_for_each(|name| tx.pause_hook(name, paused))
        })?;
        self.parts.events.arrived.notify_one();
        Ok(())
    }

    pub(super) async fn have_hook_look(
        &self,
        run: &asked::HookRun,
    ) -> Result<asked::HookBegun, OperationError> {
        self.check_hook(&run.hook)?;
        let (hook, rules) = (run.hook.clone(), self.rules());
        let top = self.find(&run.path).await?;
        let vfs = &self.parts.vfs;
        vfs.finish_closed().map_err(|error| OperationError::Failed(error.into()))?;
        let found = vfs.all_files_below(top).await;
        let (files, failed) = found.map_err(|error| OperationError::Failed(error.into()))?;
        let (meta, now) = (self.parts.meta.clone(), self.parts.clock.wall().millis());
        let begun = vfs.tasks().blocking(move || begin(&meta, &rules, &hook, &files, now)).await;
        let begun = begun.map_err(|error| OperationError::Failed(error.into()))??;
        self.parts.events.arrived.notify_one();
        let problems = failed.iter().map(|(_, error)| chain(error)).collect();
        Ok(asked::HookBegun { files: begun.files, had: begun.had, problems })
    }

    pub(super) async fn results_of_hooks(
        &self,
        filter: &asked::ResultFilter,
    ) -> Result<Vec<api::HookResult>, OperationError> {
        let asked::ResultFilter { path, hook, condition, limit } = filter;
        hook.iter().try_for_each(|name| self.check_hook(name))?;
        let search: Search = match condition {
            Some(text) => text
                .parse()
                .map_err(|error: SearchError| OperationError::Nonsense(error.to_string()))?,
            None => Search::default(),
        };
        let top = match path {
            Some(path) => Some(self.find(path).await?),
            None => None,
        };
        let wanted = |job: &Job| hook.as_ref().is_none_or(|hook| job.hook == *hook);
        let found = self.parts.meta.scan(|tx| -> Result<_, MetaError> {
            let mut found = Vec::new();
            let mut look = |jobs: Vec<Job>| -> Result<bool, MetaError> {
                for job in jobs.into_iter().filter(wanted) {
                    found.extend(self.result_there(tx, job, top)?.filter(|result| {
                        search.matches(|name| field_of(result.fields.get(name)?))
                    }));
                }
                Ok(found.len() < *limit)
            };
            match top.map(|top| tx.inode(top)).transpose()?.flatten() {
                Some(file) if file.attr.kind == FileKind::File => {
                    look(tx.jobs_of(file.ino)?)?;
                }
                Some(_) | None => {
                    let mut jobs = tx.results_before(None, JOBS_AT_ONCE)?;
                    while let Some(last) = jobs.last().map(|job| job.id)
                        && look(jobs)?
                    {
                        jobs = tx.results_before(Some(last), JOBS_AT_ONCE)?;
                    }
                }
            }
            found.truncate(*limit);
            Ok(found)
        })?;
        Ok(found)
    }

    /// The result of `job`, if the version that it is about is there, at or below `top`.
    fn result_there(
        &self,
        tx: &Tx<'_>,
        job: Job,
        top: Option<Ino>,
    ) -> Result<Option<api::HookResult>, MetaError> {
        let inode = tx.inode(job.ino)?.filter(|inode| inode.content == job.content);
        let Some((inode, names)) = inode.zip(tx.path(job.ino)?) else { return Ok(None) };
        if let Some(top) = top
            && !is_at_or_below(tx, job.ino, top)?
        {
            return Ok(None);
        }
        let mount = self.parts.mounts.iter().find(|mount| mount.share == inode.share);
        let path = mount.map(|mount| path_in(mount, &names.join(&b'/')));
        Ok(result_of(job, path))
    }
}

fn result_of(job: Job, path: Option<PathBuf>) -> Option<api::HookResult> {
    let json: serde_json::Value = serde_json::from_str(job.result.as_deref()?).ok()?;
    let text = |name: &str| json.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let derived = json.get("derived").and_then(|value| value.as_array());
    Some(api::HookResult {
        job: job.id.0.unsigned_abs(),
        hook: job.hook,
        path,
        version: job.version,
        engine: serde_json::from_value(json.get("engine")?.clone()).map(api_engine).ok()?,
        adapter: text("adapter"),
        at: timestamp_of_millis(job.changed),
        fields: json.get("result").and_then(|value| value.as_object()).cloned().unwrap_or_default(),
        derived: derived
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
    })
}
