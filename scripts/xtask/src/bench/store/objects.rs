//! What a store holds, and how it changes.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use super::Refusal;

/// Bytes in pieces that others may share, so that neither a copy nor the end of an upload in parts copies any.
#[derive(Clone, Debug, Default)]
pub(super) struct Body(Vec<Arc<Vec<u8>>>);

impl Body {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(vec![Arc::new(bytes)])
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    /// What lies in `range`, in order.
    pub(super) fn pieces(&self, range: Range<usize>) -> Vec<&[u8]> {
        let mut start = 0;
        let mut pieces = Vec::new();
        for piece in &self.0 {
            let from = range.start.saturating_sub(start).min(piece.len());
            let to = range.end.saturating_sub(start).min(piece.len());
            pieces.extend((from < to).then(|| &piece[from..to]));
            start += piece.len();
        }
        pieces
    }

    fn append(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }
}

/// Names and values that come back as they were given.
pub(super) type Headers = Vec<(String, String)>;

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) body: Body,
    pub(super) headers: Headers,
    pub(super) etag: String,
    pub(super) modified: SystemTime,
}

#[derive(Debug)]
struct Upload {
    headers: Headers,
    parts: BTreeMap<u32, Body>,
}

/// What a request asks of the version that is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Conditions<'a> {
    pub(super) if_match: Option<&'a str>,
    pub(super) if_none_match: Option<&'a str>,
}

impl Conditions<'_> {
    pub(super) fn check(self, found: Option<&Object>) -> Result<(), Refusal> {
        let is = |wanted: &str| {
            found.is_some_and(|found| wanted == "*" || wanted.trim_matches('"') == found.etag)
        };
        match self.if_match.is_none_or(is) && !self.if_none_match.is_some_and(is) {
            true => Ok(()),
            false => Err(Refusal::Precondition),
        }
    }
}

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Page<'a> {
    pub(super) objects: Vec<(&'a str, &'a Object)>,
    pub(super) prefixes: Vec<String>,
    /// The last name on this page, if there are more.
    pub(super) next: Option<String>,
}

/// The one bucket.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    bytes: usize,
    versions: u64,
}

impl Objects {
    /// How many there are, and how many bytes are in them.
    pub(super) fn totals(&self) -> (usize, usize) {
        (self.objects.len(), self.bytes)
    }

    pub(super) fn get(&self, key: &str) -> Result<&Object, Refusal> {
        self.objects.get(key).ok_or(Refusal::NoKey)
    }

    pub(super) fn put(
        &mut self,
        key: String,
        body: Body,
        headers: Headers,
        conditions: Conditions<'_>,
    ) -> Result<String, Refusal> {
        conditions.check(self.objects.get(&key))?;
        let etag = self.version();
        self.bytes += body.len();
        let object = Object { body, headers, etag: etag.clone(), modified: now() };
        if let Some(replaced) = self.objects.insert(key, object) {
            self.bytes -= replaced.body.len();
        }
        Ok(etag)
    }

    pub(super) fn delete(&mut self, key: &str, conditions: Conditions<'_>) -> Result<(), Refusal> {
        if let Some(found) = self.objects.get(key) {
            conditions.check(Some(found))?;
            self.bytes -= found.body.len();
            self.objects.remove(key);
        }
        Ok(())
    }

    /// At most `count` names after `after`, those with `delimiter` behind the prefix gathered.
    pub(super) fn list(
        &self,
        prefix: &str,
        delimiter: &str,
        after: &str,
        count: usize,
    ) -> Page<'_> {
        let mut page = Page::default();
        let mut last = String::new();
        let start = if after > prefix { after } else { prefix };
        for (key, object) in self.objects.range::<str, _>((Included(start), Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let end = if delimiter.is_empty() { None } else { rest.find(delimiter) };
            let place = match end {
                Some(end) => &key[..prefix.len() + end + delimiter.len()],
                None => &**key,
            };
            if place <= after || place == last {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == count {
                page.next = Some(last);
                break;
            }
            place.clone_into(&mut last);
            match end {
                Some(_) => page.prefixes.push(place.to_owned()),
                None => page.objects.push((key, object)),
            }
        }
        page
    }

    pub(super) fn begin_upload(&mut self, headers: Headers) -> String {
        let id = self.version();
        self.uploads.insert(id.clone(), Upload { headers, parts: BTreeMap::new() });
        id
    }

    pub(super) fn put_part(&mut self, id: &str, part: u32, body: Body) -> Result<String, Refusal> {
        let upload = self.uploads.get_mut(id).ok_or(Refusal::NoUpload)?;
        upload.parts.insert(part, body);
        Ok(format!("{id}-{part}"))
    }

    pub(super) fn end_upload(
        &mut self,
        id: &str,
        key: String,
        conditions: Conditions<'_>,
    ) -> Result<String, Refusal> {
        conditions.check(self.objects.get(&key))?;
        let upload = self.uploads.remove(id).ok_or(Refusal::NoUpload)?;
        let mut body = Body::default();
        upload.parts.values().for_each(|part| body.append(part));
        self.put(key, body, upload.headers, Conditions::default())
    }

    pub(super) fn abort_upload(&mut self, id: &str) {
        self.uploads.remove(id);
    }

    /// A version that no client takes for a sum of the content.
    fn version(&mut self) -> String {
        self.versions += 1;
        format!("{:032x}-1", self.versions)
    }
}

#[expect(clippy::disallowed_methods, reason = "a store says when an object came")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(objects: &mut Objects, key: &str, bytes: &str) {
        let body = Body::new(bytes.into());
        objects.put(key.into(), body, Vec::new(), Conditions::default()).unwrap();
    }

    #[test]
    fn pages_join_to_the_whole() {
        let mut objects = Objects::default();
        for key in ["a", "d/1", "d/2", "d/e/3", "e", "f"] {
            put(&mut objects, key, "x");
        }
        let names = |prefix: &str, delimiter: &str| {
            let (mut names, mut after) = (Vec::new(), String::new());
            loop {
                let page = objects.list(prefix, delimiter, &after, 2);
                names.extend(page.objects.iter().map(|(key, _)| (*key).to_owned()));
                names.extend(page.prefixes);
                let Some(next) = page.next else { return names };
                after = next;
            }
        };
        assert_eq!(names("", ""), ["a", "d/1", "d/2", "d/e/3", "e", "f"]);
        assert_eq!(names("", "/"), ["a", "d/", "e", "f"]);
        assert_eq!(names("d/", "/"), ["d/1", "d/2", "d/e/"]);
    }

    #[test]
    fn bytes_are_counted_and_parts_joined() {
        let mut objects = Objects::default();
        put(&mut objects, "a", "1234");
        put(&mut objects, "a", "12");
        let id = objects.begin_upload(Vec::new());
        objects.put_part(&id, 2, Body::new("cd".into())).unwrap();
        objects.put_part(&id, 1, Body::new("ab".into())).unwrap();
        objects.end_upload(&id, "b".into(), Conditions::default()).unwrap();
        assert_eq!(objects.totals(), (2, 6));
        assert_eq!(objects.get("b").unwrap().body.pieces(1..3), [b"b", b"c"]);
        let new = Conditions { if_none_match: Some("*"), ..Conditions::default() };
        assert!(objects.put("b".into(), Body::default(), Vec::new(), new).is_err());
        objects.delete("b", Conditions::default()).unwrap();
        assert_eq!(objects.totals(), (1, 2));
    }
}
