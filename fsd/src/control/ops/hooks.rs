//! The verbs that steer hooks.

use super::OperationError;
use super::gateway::Gateway;
use crate::control::api::types as api;
use crate::hooks::{Rule, begin};
use crate::meta::MetaError;
use crate::types::chain;

impl Gateway {
    pub(super) fn rule(&self, name: &str) -> Result<&Rule, OperationError> {
        let mut rules = self.parts.hooks.iter().flat_map(|hooks| hooks.rules());
        let no_hook = || OperationError::NoHook { name: name.to_owned() };
        rules.find(|rule| rule.hook.name() == name).ok_or_else(no_hook)
    }

    pub(super) fn have_hooks_rest(&self, pause: &api::HookPause) -> Result<(), OperationError> {
        let names = match &pause.hook {
            Some(name) => vec![self.rule(name)?.hook.name().to_owned()],
            None => {
                let rules = self.parts.hooks.iter().flat_map(|hooks| hooks.rules());
                rules.map(|rule| rule.hook.name().to_owned()).collect()
            }
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
        run: &api::HookRun,
    ) -> Result<api::HookBegun, OperationError> {
        let rule = self.rule(&run.hook)?.clone();
        let top = self.find(&run.path).await?;
        let vfs = &self.parts.vfs;
        vfs.finish_closed().map_err(|error| OperationError::Failed(error.into()))?;
        let found = vfs.all_files_below(top).await;
        let (files, failed) = found.map_err(|error| OperationError::Failed(error.into()))?;
        let (meta, now) = (self.parts.meta.clone(), self.parts.clock.wall().millis());
        let begun = vfs.tasks().blocking(move || begin(&meta, &rule, &files, now)).await;
        let begun = begun.map_err(|error| OperationError::Failed(error.into()))??;
        self.parts.events.arrived.notify_one();
        let problems = failed.iter().map(|(_, error)| chain(error)).collect();
        Ok(api::HookBegun { files: begun.files, had: begun.had, problems })
    }
}
