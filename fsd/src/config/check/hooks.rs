//! What is looked at on arrival.

use std::ops::RangeInclusive;
use std::path::{Component, Path};
use std::time::Duration;

use globset::Glob;
use jiff::tz::TimeZoneDatabase;
use policies::search::{Search, SearchError};
use policies::units::{parse_bytes, parse_duration};
use policies::when::WhenError;
use policies::{GateRule, Verdict, When};

use super::super::file::{GateSection, HookSection, ShareSection};
use super::super::problem::ProblemKind;
use super::super::{
    EVERY_RANGE, GATE_TIMEOUT, GATE_TIMEOUT_RANGE, GateConfig, HOOKS_MAX, HookConfig,
    RESULTS_FOLDER, ResultsTo,
};
use super::{Findings, has, no_such_share, within};
use crate::hooks::Alert;

pub(super) fn hooks(
    sections: &[HookSection],
    shares: &[ShareSection],
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> Vec<HookConfig> {
    if sections.len() > HOOKS_MAX {
        findings.note("hook", sections.len().to_string(), ProblemKind::TooManyHooks);
    }
    let hooks = sections.iter().enumerate();
    hooks.map(|(index, section)| hook(index, section, shares, zones, findings)).collect()
}

fn hook(
    index: usize,
    section: &HookSection,
    all: &[ShareSection],
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> HookConfig {
    let key = |name: &str| format!("hook.{index}.{name}");
    let shares = match &section.shares {
        None => all.iter().map(|share| share.name.clone()).collect(),
        Some(names) => {
            if names.is_empty() {
                findings.note(key("shares"), "[]", ProblemKind::NoHookShares);
            }
            for (at, name) in names.iter().enumerate().filter(|(_, name)| !has(all, name)) {
                findings.note(key(&format!("shares.{at}")), name, no_such_share(all));
            }
            names.clone()
        }
    };
    for (at, glob) in section.matches.iter().flatten().enumerate() {
        if let Err(error) = Glob::new(glob) {
            findings.note(key(&format!("match.{at}")), glob, ProblemKind::Glob(error));
        }
    }
    let results = results(&key, section, &shares, all, findings);
    let dir = findings.absolute(key("dir"), &section.dir);
    let gate =
        section.gate.as_ref().map(|section| gate(&key("gate"), section, (&shares, all), findings));
    HookConfig {
        dir,
        shares,
        matches: section.matches.clone(),
        priority: section.priority,
        media_types: media_types(&key, &section.mime, findings),
        when: when(&key, section, zones, findings),
        sizes: sizes(&key, section, findings),
        results,
        params: section.params.clone(),
        gate,
        alerts: alerts(&key, &section.alert_if, findings),
    }
}

fn gate(
    key: &str,
    section: &GateSection,
    shares: (&[String], &[ShareSection]),
    findings: &mut Findings,
) -> GateConfig {
    check_originals(key, section, shares, findings);
    check_route(key, section, shares, findings);
    let fallback = section.fallback.as_deref();
    let rule = GateRule {
        hold_if: section.hold_if.clone(),
        drop_if: section.drop_if.clone(),
        route_if: section.route_if.clone(),
        fallback: findings.read(format!("{key}.fallback"), fallback, Verdict::Hold, str::parse),
    };
    let timeout = section.timeout.as_deref();
    let timeout = findings.read(format!("{key}.timeout"), timeout, GATE_TIMEOUT, |text| {
        within(parse_duration(text)?, GATE_TIMEOUT_RANGE)
    });
    let (originals, route) = (section.originals_share.clone(), section.route_share.clone());
    GateConfig { rule, timeout, originals, route }
}

/// Whether originals of the shares `seen` can be kept where the gate wants them.
fn check_originals(
    key: &str,
    section: &GateSection,
    (seen, all): (&[String], &[ShareSection]),
    findings: &mut Findings,
) {
    let Some(name) = &section.originals_share else { return };
    let problem = match find(all, name) {
        None => no_such_share(all),
        Some(share) if share.local && !share.read_only && !seen.contains(name) => return,
        Some(_) => ProblemKind::Originals,
    };
    findings.note(format!("{key}.originals_share"), name, problem);
}

/// Whether files of the shares `seen` can move where the gate sends them.
fn check_route(
    key: &str,
    section: &GateSection,
    (seen, all): (&[String], &[ShareSection]),
    findings: &mut Findings,
) {
    let is_fit = |to: &ShareSection| {
        let mut from = seen.iter().filter_map(|name| find(all, name));
        !to.read_only
            && from.all(|from| from.name != to.name && !from.read_only && (to.local || !from.local))
    };
    let (fields, to) = (&section.route_if, &section.route_share);
    let (place, value, problem) = match to {
        None if fields.is_empty() => return,
        None => ("route_if", fields.join(", "), ProblemKind::HalfARoute),
        Some(name) => {
            let problem = match find(all, name) {
                None => no_such_share(all),
                Some(_) if fields.is_empty() => ProblemKind::HalfARoute,
                Some(to) if is_fit(to) => return,
                Some(_) => ProblemKind::Route,
            };
            ("route_share", name.clone(), problem)
        }
    };
    findings.note(format!("{key}.{place}"), value, problem);
}

fn find<'a>(shares: &'a [ShareSection], name: &str) -> Option<&'a ShareSection> {
    shares.iter().find(|share| share.name == name)
}

fn media_types(
    key: &impl Fn(&str) -> String,
    written: &[String],
    findings: &mut Findings,
) -> Vec<String> {
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-.+_".contains(c))
    };
    for (at, text) in written.iter().enumerate() {
        let parts = text.split_once('/');
        if !parts.is_some_and(|(kind, sub)| is_part(kind) && (sub == "*" || is_part(sub))) {
            findings.note(key(&format!("mime.{at}")), text, ProblemKind::MediaType);
        }
    }
    written.iter().map(|text| text.to_ascii_lowercase()).collect()
}

fn when(
    key: &impl Fn(&str) -> String,
    section: &HookSection,
    zones: &TimeZoneDatabase,
    findings: &mut Findings,
) -> When {
    let HookSection { every, cron, time_zone, debounce, .. } = section;
    let within_range = |text: &str| within(parse_duration(text)?, EVERY_RANGE);
    let every =
        findings.read(key("every"), every.as_deref(), None, |text| within_range(text).map(Some));
    let debounce =
        findings.read(key("debounce"), debounce.as_deref(), Duration::ZERO, within_range);
    let pattern = cron.as_deref().map(|pattern| (pattern, time_zone.as_deref()));
    let checked = match (&pattern, time_zone) {
        (None, Some(_)) => Err(WhenError::NoTimeZone),
        (None, None) | (Some(_), _) => When::check(every, pattern, debounce, zones),
    };
    checked.unwrap_or_else(|error| {
        let (name, value) = match (&error, pattern) {
            (WhenError::TimeZone, Some((_, zone))) => ("time_zone", zone),
            (_, Some((pattern, _))) => ("cron", Some(pattern)),
            (_, None) => ("time_zone", time_zone.as_deref()),
        };
        findings.note(key(name), value.unwrap_or_default(), error.into());
        When::default()
    })
}

fn alerts(
    key: &impl Fn(&str) -> String,
    conditions: &[String],
    findings: &mut Findings,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for (at, condition) in conditions.iter().enumerate() {
        match condition.parse::<Search>() {
            Ok(search) => alerts.push(Alert { condition: condition.clone(), search }),
            Err(error) => {
                let kind = SearchError::into(error);
                findings.note(key(&format!("alert_if.{at}")), condition, kind);
            }
        }
    }
    alerts
}

fn sizes(
    key: &impl Fn(&str) -> String,
    section: &HookSection,
    findings: &mut Findings,
) -> RangeInclusive<u64> {
    let least = findings.read(key("size_min"), section.size_min.as_deref(), 0, parse_bytes);
    let most = findings.read(key("size_max"), section.size_max.as_deref(), u64::MAX, |text| {
        match parse_bytes(text) {
            Ok(most) if most < least => Err(ProblemKind::NoSize),
            most => most.map_err(ProblemKind::from),
        }
    });
    least..=most
}

/// Where the results of a hook that sees the shares `seen` go.
fn results(
    key: &impl Fn(&str) -> String,
    section: &HookSection,
    seen: &[String],
    all: &[ShareSection],
    findings: &mut Findings,
) -> ResultsTo {
    match (&section.results_folder, &section.results_share) {
        (None, None) => ResultsTo::Folder(RESULTS_FOLDER.to_owned()),
        (Some(folder), None) => {
            let parts = Path::new(folder).components();
            if folder.is_empty() || parts.clone().any(|part| !matches!(part, Component::Normal(_)))
            {
                findings.note(key("results_folder"), folder, ProblemKind::ResultsFolder);
            }
            ResultsTo::Folder(folder.trim_end_matches('/').to_owned())
        }
        (None, Some(name)) => {
            match find(all, name) {
                None => findings.note(key("results_share"), name, no_such_share(all)),
                Some(target) => {
                    for kind in results_problems(target, seen, all) {
                        findings.note(key("results_share"), name, kind);
                    }
                }
            }
            ResultsTo::Share(name.clone())
        }
        (Some(_), Some(name)) => {
            findings.note(key("results_share"), name, ProblemKind::TwoResults);
            ResultsTo::Share(name.clone())
        }
    }
}

/// What speaks against results of files in the shares `seen` going to the share `target`.
fn results_problems<'a>(
    target: &'a ShareSection,
    seen: &'a [String],
    all: &'a [ShareSection],
) -> impl Iterator<Item = ProblemKind> + 'a {
    let read_only = target.read_only.then_some(ProblemKind::ResultsReadOnly);
    let local = all.iter().find(|share| share.local && seen.contains(&share.name));
    let leaves = local
        .filter(|_| !target.local)
        .map(|local| ProblemKind::ResultsLeave { local: local.name.clone() });
    read_only.into_iter().chain(leaves)
}
