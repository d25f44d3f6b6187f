//! Which hooks look at a file: pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inference_hooks::{Hook, Work};
use policies::chains::{Link, Shape};
use policies::search::Search;
use policies::{Files, Gate, GateRule, When};

use crate::types::ShareId;

/// Where the results of a hook go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultsPlace {
    /// To a folder at the root of the share that the file arrived in.
    Folder(Vec<u8>),
    /// To another share.
    Share(ShareId),
}

/// A hook that is in force.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The hook.
    pub hook: Arc<Hook>,
    /// The shares whose arrivals it sees.
    pub shares: Vec<ShareId>,
    /// Where its results go.
    pub results: ResultsPlace,
    /// Where it was read, and the parameters that hold over those there.
    pub origin: Option<(PathBuf, toml::Table)>,
    /// The files that it sees.
    files: Files,
    /// How it decides what leaves, if it does.
    pub gate: Option<Decides>,
    /// When it looks at them.
    pub when: When,
    /// Jobs of the hook with the highest go first.
    pub priority: i32,
    /// What they are: media types, or all.
    pub media_types: Vec<String>,
    /// What of its results is told.
    pub alerts: Vec<Alert>,
}

/// Results that an operator wants to be told of.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// As it is written.
    pub condition: String,
    /// What it means.
    pub search: Search,
}

/// How a hook decides what leaves.
#[derive(Clone, Debug)]
pub struct Decides {
    /// By what it says.
    pub rule: GateRule,
    /// How long that may take.
    pub timeout: Duration,
    /// Where originals go whose place its picture takes; none: what it sees leaves as it is.
    pub originals: Option<ShareId>,
    /// Where files go that it sends to another share.
    pub route: Option<ShareId>,
}

impl Rule {
    /// A rule of `hook`, for names that match one of `globs`: those with a slash against the whole path, others against the last name.
    /// Capital letters count as small ones.
    ///
    /// # Errors
    /// If a glob is none.
    pub fn new(
        hook: Arc<Hook>,
        shares: Vec<ShareId>,
        results: ResultsPlace,
        globs: &[String],
        sizes: RangeInclusive<u64>,
    ) -> Result<Self, globset::Error> {
        Ok(Self {
            hook,
            shares,
            results,
            origin: None,
            files: Files::new(globs, sizes)?,
            gate: None,
            when: When::default(),
            priority: 0,
            media_types: Vec::new(),
            alerts: Vec::new(),
        })
    }

    /// Whether the hook looks at the file at `path` of `share`, which is so long. It never looks at its own results.
    #[must_use]
    pub fn sees(&self, share: ShareId, path: &[Vec<u8>], bytes: u64) -> bool {
        let own = match &self.results {
            ResultsPlace::Folder(folder) => path.first() == Some(folder),
            ResultsPlace::Share(results) => *results == share,
        };
        !own && self.shares.contains(&share) && self.files.has(path, bytes)
    }

    /// Whether it is a program, in a sandbox of its own.
    #[must_use]
    pub fn is_program(&self) -> bool {
        match self.hook.work() {
            Work::Shaders(_) => false,
            Work::Command(_) | Work::Container(_) => true,
        }
    }

    /// Whether what it makes takes the place of what it sees.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.originals.is_some())
    }

    /// Whether what it sees may go to another share.
    #[must_use]
    pub fn routes(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.route.is_some())
    }

    /// What it sees and writes, as far as chains of hooks go.
    #[must_use]
    pub fn link(&self) -> Link {
        let shares = || self.shares.iter().map(|share| share.0);
        let globs = self.files.globs();
        let sees: Vec<_> = shares()
            .flat_map(|share| globs.iter().flat_map(move |g| Shape::of_glob(share, g)))
            .collect();
        let places: Vec<(u32, String)> = match &self.results {
            ResultsPlace::Folder(folder) => {
                let head = format!("{}/", String::from_utf8_lossy(folder)).to_lowercase();
                shares().map(|share| (share, head.clone())).collect()
            }
            ResultsPlace::Share(share) => vec![(share.0, String::new())],
        };
        // What a program writes, it alone knows.
        let suffixes = if self.is_program() { vec![String::new()] } else { self.hook.suffixes() };
        let tails = suffixes.into_iter().map(|tail| tail.to_lowercase());
        let tails: Vec<_> =
            tails.chain([format!(".{}.json", self.hook.name()).to_lowercase()]).collect();
        let writes = places.iter().flat_map(|(share, head)| {
            let shape =
                |tail: &String| Shape { share: *share, head: head.clone(), tail: tail.clone() };
            tails.iter().map(shape).collect::<Vec<_>>()
        });
        // Below the name of the share that it comes from.
        let moved = self.gate.as_ref().and_then(|gate| gate.route).into_iter().flat_map(|to| {
            sees.iter().map(move |shape| Shape {
                share: to.0,
                head: String::new(),
                ..shape.clone()
            })
        });
        let writes = writes.chain(moved).collect();
        Link { sees, writes, never: places.clone() }
    }

    /// The gate that it is before what leaves `share`, if it is one.
    #[must_use]
    pub fn gate_of(&self, share: ShareId) -> Option<Gate> {
        let results = match &self.results {
            ResultsPlace::Folder(folder) => Some(folder.clone()),
            ResultsPlace::Share(results) if *results == share => return None,
            ResultsPlace::Share(_) => None,
        };
        let is_one = self.gate.is_some() && self.shares.contains(&share);
        is_one.then(|| Gate {
            hook: self.hook.name().to_owned(),
            files: self.files.clone(),
            results,
        })
    }
}

/// The names of hooks that have the same priority, the highest first.
pub(super) fn by_priority(rules: &[&Rule]) -> Vec<Vec<String>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    for rule in rules {
        groups.entry(Reverse(rule.priority)).or_default().push(rule.hook.name().to_owned());
    }
    groups.into_values().collect()
}

/// A path for people.
pub(super) fn path_text(path: &[Vec<u8>]) -> String {
    let names: Vec<_> = path.iter().map(|name| String::from_utf8_lossy(name)).collect();
    names.join("/")
}

#[cfg(test)]
mod tests {
    use inference_hooks::ready_hooks;

    use super::*;

    fn path(text: &str) -> Vec<Vec<u8>> {
        text.split('/').map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn hooks_of_one_priority_go_together_and_those_of_the_highest_first() {
        let rule = |number: usize, priority| {
            let hook = Arc::new(Hook::parse(ready_hooks()[number].source()).unwrap());
            let results = ResultsPlace::Folder(b"results".to_vec());
            let rule = Rule::new(hook, Vec::new(), results, &[], 0..=1).unwrap();
            Rule { priority, ..rule }
        };
        let rules = [rule(0, -1), rule(1, 5), rule(2, -1)];
        let name = |number: usize| rules[number].hook.name().to_owned();
        let groups = by_priority(&rules.iter().collect::<Vec<_>>());
        assert_eq!(groups, [vec![name(1)], vec![name(0), name(2)]]);
        assert!(by_priority(&[]).is_empty());
    }

    #[test]
    fn a_hook_sees_what_its_globs_name_but_never_its_own_results() {
        let hook = Arc::new(Hook::parse(ready_hooks()[0].source()).unwrap());
        let results = ResultsPlace::Folder(b"fsd-results".to_vec());
        let globs = ["*.jpg".to_owned(), "raw/*.tif".to_owned()];
        let rule = Rule::new(hook, vec![ShareId(1)], results, &globs, 10..=20).unwrap();
        for (seen, share, at) in [
            (true, 1, "a.jpg"),
            (true, 1, "deep/er/A.JPG"),
            (true, 1, "raw/a.tif"),
            (false, 1, "other/raw/a.tif"),
            (false, 1, "a.txt"),
            (false, 2, "a.jpg"),
            (false, 1, "fsd-results/a.jpg"),
        ] {
            assert_eq!(rule.sees(ShareId(share), &path(at), 10), seen, "{at}");
        }
        let seen = [9, 10, 20, 21].map(|bytes| rule.sees(ShareId(1), &path("a.jpg"), bytes));
        assert_eq!(seen, [false, true, true, false]);
    }
}
