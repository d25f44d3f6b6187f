//! Hooks, as the configuration has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use inference_hooks::{FieldType, Hook, WorkerConfig};
use policies::Gate;
use policies::chains::find_loop;

use super::{Ground, OpenShare};
use crate::config::{GateConfig, HookConfig, ResultsTo};
use crate::hooks::{self, Alert, Decides, Hooks, ResultsPlace, Rule};
use crate::remote::Env;
use crate::types::ShareId;
use crate::vfs::Vfs;

/// Starts them, if there are any, or somebody is told of arrivals.
pub(super) fn start(
    ground: &Ground,
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
        worker: worker_config(env),
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
        if let Some(gate) = &config.gate {
            check_gate(&hook, gate)?;
        }
        check_alerts(&hook, &config.alerts)?;
        let mut rule = Rule::new(Arc::new(hook), seen, results, &globs, config.sizes.clone())
            .with_context(|| format!("read the globs of the hook {}", config.dir.display()))?;
        rule.gate = config.gate.as_ref().map(|gate| Decides {
            rule: gate.rule.clone(),
            timeout: gate.timeout,
            originals: gate.originals.as_deref().and_then(id_of),
        });
        rule.when = config.when.clone();
        rule.media_types = config.media_types.clone();
        rule.alerts = config.alerts.clone();
        rules.push(rule);
    }
    refuse_loops(&rules)?;
    Ok(rules)
}

/// What one hook writes may be an arrival for another, but not for ever.
fn refuse_loops(rules: &[Rule]) -> anyhow::Result<()> {
    let links: Vec<_> = rules.iter().map(Rule::link).collect();
    let Some(numbers) = find_loop(&links) else { return Ok(()) };
    let names: Vec<_> = numbers.iter().map(|number| rules[*number].hook.name()).collect();
    bail!(
        "the hooks {} could look at each other's results for ever: let them have the same results_folder, or give one a `match` that leaves \
         out what the others write",
        names.join(" → ")
    )
}

/// The gates before what leaves each share.
pub(super) fn gates(shares: &[OpenShare], rules: &[Rule]) -> BTreeMap<ShareId, Vec<Gate>> {
    let of = |share: ShareId| rules.iter().filter_map(|rule| rule.gate_of(share)).collect();
    shares.iter().map(|share| (share.id, of(share.id))).collect()
}

/// A gate can only ask for what its hook says.
fn check_gate(hook: &Hook, gate: &GateConfig) -> anyhow::Result<()> {
    ensure!(
        gate.originals.is_none() || hook.output().image.is_some(),
        "the hook {} makes no picture that could take the place of an original: leave originals_share out",
        hook.name()
    );
    let fields = &hook.output().fields;
    for name in gate.rule.hold_if.iter().chain(&gate.rule.drop_if) {
        let is_one = fields.iter().any(|(field, kind)| field == name && *kind == FieldType::Bool);
        let known = fields.iter().filter(|(_, kind)| *kind == FieldType::Bool);
        let known: Vec<_> = known.map(|(field, _)| field.as_str()).collect();
        ensure!(
            is_one,
            "the gate {} asks for {name:?}, which is no field of its hook that is true or false; there is {}",
            hook.name(),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
    }
    Ok(())
}

/// An alert can only ask for what its hook says.
fn check_alerts(hook: &Hook, alerts: &[Alert]) -> anyhow::Result<()> {
    let known: Vec<_> = hook.output().fields.iter().map(|(field, _)| field.as_str()).collect();
    for Alert { condition, search } in alerts {
        let stranger = search.fields().find(|field| !known.contains(field));
        ensure!(
            stranger.is_none(),
            "alert_if {condition:?} asks for {:?}, which is no field of the hook {}; there is {}",
            stranger.unwrap_or_default(),
            hook.name(),
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
    }
    Ok(())
}

/// A worker gets what a graphics driver needs of the environment, and nothing else.
fn worker_config(env: &Env) -> WorkerConfig {
    const OF_DRIVERS: [&str; 3] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH"];
    let environment =
        OF_DRIVERS.iter().filter_map(|name| Some((name.into(), env.get(name)?.into())));
    WorkerConfig {
        allow_software_adapter: env.get("FSD_ALLOW_SOFTWARE_GPU").is_some(),
        environment: environment.collect(),
        ..WorkerConfig::default()
    }
}
