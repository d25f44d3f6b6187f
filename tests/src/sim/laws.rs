//! What must be true of the cloud after every single request, whoever made it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use fsd::types::{ETag, Ino};

/// Shorter contents may be the same by chance, and say nothing.
const TELLING_BYTES_MIN: usize = 24;

/// A version of a file: its number in the model, and how often it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    pub(super) file: u64,
    pub(super) number: u64,
}

/// A file as its user has it now.
#[derive(Clone, Copy, Debug)]
struct Live {
    version: Version,
    ino: Ino,
}

/// What is known of a content.
#[derive(Clone, Copy, Debug)]
struct Whole {
    version: Version,
    /// It is several files' by now: somebody copied it in the cloud.
    is_shared: bool,
}

type IsHere = Arc<dyn Fn(Ino) -> bool + Send + Sync>;

/// All that was ever whole, what is alive, and what the gateway has seen.
#[derive(Default)]
pub(super) struct Laws {
    whole: HashMap<u64, Whole>,
    live: BTreeMap<u64, Live>,
    seen: BTreeSet<String>,
    is_here: Option<IsHere>,
    pub(super) violations: Vec<String>,
}

/// An object that goes, or that another takes the place of.
#[derive(Debug)]
pub(super) struct Going<'a> {
    pub(super) key: &'a str,
    pub(super) body: &'a [u8],
    pub(super) etag: &'a ETag,
    /// Somebody else put it there.
    pub(super) foreign: bool,
    /// Another object has the same content.
    pub(super) has_twin: bool,
}

impl Laws {
    /// From now on `body` is a whole version: somebody is about to close it.
    pub(super) fn is_whole(&mut self, body: &[u8], version: Version) {
        let entry = self.whole.entry(hash(body)).or_insert(Whole { version, is_shared: false });
        entry.is_shared |= entry.version.file != version.file;
        entry.version = version;
    }

    /// From now on `body` may be several files'.
    pub(super) fn is_shared(&mut self, body: &[u8]) {
        self.whole.entry(hash(body)).and_modify(|whole| whole.is_shared = true);
    }

    /// Which version `body` is, if it is one file's alone.
    pub(super) fn version_of(&self, body: &[u8]) -> Option<Version> {
        self.whole.get(&hash(body)).filter(|whole| !whole.is_shared).map(|whole| whole.version)
    }

    /// From now on a name leads to `version`.
    pub(super) fn lives(&mut self, version: Version, ino: Ino) {
        self.live.insert(version.file, Live { version, ino });
    }

    /// From now on no name leads to `file`, or it is not sure what of it there is.
    pub(super) fn dies(&mut self, file: u64) {
        self.live.remove(&file);
    }

    /// How to find out whether all of a file is on the gateway's disk; none while there is no gateway.
    pub(super) fn ask_gateway(&mut self, is_here: Option<IsHere>) {
        self.is_here = is_here;
    }

    /// The gateway was told of an object's version.
    pub(super) fn saw(&mut self, etag: &ETag) {
        self.seen.insert(etag.0.clone());
    }

    /// The gateway puts `body` in place of what was at the key.
    pub(super) fn put(&mut self, key: &str, body: &[u8], before: Option<&Going<'_>>) {
        let version = self.version_of(body);
        // What somebody else took away while part of it was here, and says so.
        let says_so = key.contains(" (incomplete ");
        if !self.whole.contains_key(&hash(body)) && !body.is_empty() && !says_so {
            self.broken(format!("{key} gets {} bytes that never were a whole version", body.len()));
        }
        let Some(before) = before else { return };
        let older = self
            .version_of(before.body)
            .zip(version)
            .filter(|(before, now)| before.file == now.file && before.number > now.number);
        if let Some((before, now)) = older.filter(|_| body.len() >= TELLING_BYTES_MIN) {
            self.broken(format!("{key} goes back from {before:?} to {now:?}"));
        }
        self.goes(before, version);
    }

    /// The gateway takes an object away, or puts the version `by` in its place.
    pub(super) fn goes(&mut self, going: &Going<'_>, by: Option<Version>) {
        let Going { key, body, etag, foreign, has_twin } = going;
        if *foreign && !self.seen.contains(&etag.0) {
            self.broken(format!("{key} had a version of somebody else that was never looked at"));
        }
        if body.len() < TELLING_BYTES_MIN || *has_twin {
            return;
        }
        let Some(version) = self.version_of(body).filter(|version| Some(*version) != by) else {
            return;
        };
        let Some(live) = self.live.get(&version.file).filter(|live| live.version == version) else {
            return;
        };
        let is_here = self.is_here.clone().is_some_and(|is_here| is_here(live.ino));
        if !is_here {
            self.broken(format!("{key} was the only copy of {version:?}"));
        }
    }

    /// Something is not as it must be.
    pub(super) fn broken(&mut self, what: String) {
        self.violations.push(what);
    }
}

impl fmt::Debug for Laws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Laws").field("violations", &self.violations).finish_non_exhaustive()
    }
}

fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}
