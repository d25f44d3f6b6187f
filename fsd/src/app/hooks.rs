//! Hooks, as the configuration has them.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use inference_hooks::WorkerConfig;
use policies::Gate;

use super::{Ground, OpenShare};
use crate::config::{Config, HookConfig, ResultsTo};
use crate::hooks::{self, Decides, Hooks, ResultsPlace, Rule};
use crate::remote::Env;
use crate::types::ShareId;
use crate::vfs::Vfs;

/// Starts them, if there are any, or somebody is told of arrivals.
pub(super) fn start(
    ground: &Ground,
    config: &Config,
    vfs: &Arc<Vfs>,
    rules: Vec<Rule>,
    has_listeners: bool,
) -> anyhow::Result<Option<Hooks>> {
    if rules.is_empty() && !has_listeners {
        return Ok(None);
    }
    let Ground { env, clock, background, events, meta, .. } = ground;
    Ok(Some(hooks::start(hooks::Parts {
        vfs: vfs.clone(),
        meta: meta.clone(),
        events: events.clone(),
        clock: clock.clone(),
        tasks: background.clone(),
        rules,
        executable: "/proc/self/exe".into(),
        worker: worker_config(env, &config.state_dir),
        scratch: scratch(&config.state_dir)?,
        programs_at_once: config.programs_at_once,
    })?))
}

/// The hooks of the configuration, read and checked.
pub(super) fn rules(configs: &[HookConfig], shares: &[OpenShare]) -> anyhow::Result<Vec<Rule>> {
    let id_of =
        |name: &str| shares.iter().find(|share| share.config.name == name).map(|share| share.id);
    let mut rules: Vec<Rule> = Vec::new();
    for config in configs {
        let hook = hooks::read_hook(&config.dir, &config.params)
            .with_context(|| format!("read the hook {}", config.dir.display()))?;
        if rules.iter().any(|rule| rule.hook.name() == hook.name()) {
            bail!("two hooks are called {}: rename one in its hook.toml", hook.name());
        }
        let results = match &config.results {
            ResultsTo::Folder(folder) => ResultsPlace::Folder(folder.clone().into_bytes()),
            ResultsTo::Share(name) => ResultsPlace::Share(
                id_of(name).with_context(|| format!("there is no share {name} for results"))?,
            ),
        };
        let seen = config.shares.iter().filter_map(|name| id_of(name)).collect();
        let globs = config.matches.clone().unwrap_or_else(|| hook.globs().to_vec());
        let mut rule = Rule::new(Arc::new(hook), seen, results, &globs, config.sizes.clone())
            .with_context(|| format!("read the globs of the hook {}", config.dir.display()))?;
        rule.gate = config.gate.as_ref().map(|gate| Decides {
            rule: gate.rule.clone(),
            timeout: gate.timeout,
            originals: gate.originals.as_deref().and_then(id_of),
            route: gate.route.as_deref().and_then(id_of),
        });
        rule.priority = config.priority;
        rule.when = config.when.clone();
        rule.media_types = config.media_types.clone();
        rule.alerts = config.alerts.clone();
        rule.origin = Some((config.dir.clone(), config.params.clone()));
        rule.check()?;
        rules.push(rule);
    }
    hooks::refuse_two_routes(&rules)?;
    hooks::refuse_loops(&rules)?;
    Ok(rules)
}

/// The gates before what leaves each share.
pub(super) fn gates(shares: &[OpenShare], rules: &[Rule]) -> BTreeMap<ShareId, Vec<Gate>> {
    let of = |share: ShareId| rules.iter().filter_map(|rule| rule.gate_of(share)).collect();
    shares.iter().map(|share| (share.id, of(share.id))).collect()
}

/// A worker gets what a graphics driver needs of the environment, and nothing else.
fn worker_config(env: &Env, state_dir: &Path) -> WorkerConfig {
    const OF_DRIVERS: [&str; 3] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH"];
    let environment =
        OF_DRIVERS.iter().filter_map(|name| Some((name.into(), env.get(name)?.into())));
    WorkerConfig {
        keep_spare: true,
        cache_dir: Some(state_dir.join("gpu")),
        allow_software_adapter: env.get("FSD_ALLOW_SOFTWARE_GPU").is_some(),
        environment: environment.collect(),
        ..WorkerConfig::default()
    }
}

/// Where hooks that are programs run. As root they run as another user, who can't get to the state directory.
fn scratch(state_dir: &Path) -> anyhow::Result<PathBuf> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(state_dir.join("programs"));
    }
    let state = std::fs::metadata(state_dir).context("look at the state directory")?;
    Ok(format!("/run/fsd-hooks-{}-{}", state.dev(), state.ino()).into())
}
