//! Many objects deleted by one request.
//!
//! Not every server judges the versions that the request names, so they are looked at a moment before, as for a single deletion: here
//! by listing, which shows a thousand at once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use http::{Method, StatusCode};

use super::{Request, S3, Signer};
use crate::remote::reply::{self, Errors};
use crate::remote::{Body, Condition, ETag, Remote as _, RemoteError, Result};
use crate::types::Key;

/// So many keys one request may name.
const KEYS_MAX: usize = 1000;
/// So many pages are listed to find the versions of keys in one directory; the others are asked for one by one.
const PAGES_MAX: usize = 4;

impl S3 {
    /// How many objects one request deletes; one, where there is no such request.
    pub(super) fn deletes_max(&self) -> usize {
        match self.signer {
            Signer::Aws { .. } if !self.bulk_refused.load(Ordering::Relaxed) => KEYS_MAX,
            Signer::Aws { .. } | Signer::Google { .. } => 1,
        }
    }

    pub(super) async fn delete_all(&self, objects: &[(Key, ETag)]) -> Result<Vec<Result<()>>> {
        let there = self.versions_of(objects).await?;
        let mut outcomes: Vec<Result<()>> = Vec::with_capacity(objects.len());
        let mut named = Vec::new();
        for (at, (key, etag)) in objects.iter().enumerate() {
            let outcome = match there.get(key) {
                None => Ok(()),
                Some(found) if found != etag => Err(self.errors(key).precondition()),
                Some(_) if is_plain(key) => {
                    named.push(at);
                    Ok(())
                }
                // A document can't say it.
                Some(_) => self.delete(key, &Condition::Match(etag.clone())).await,
            };
            outcomes.push(outcome);
        }
        for chunk in named.chunks(KEYS_MAX) {
            let chunk: Vec<&(Key, ETag)> = chunk.iter().map(|&at| &objects[at]).collect();
            let mut refused = self.delete_named(&chunk).await?;
            for (at, (key, _)) in objects.iter().enumerate() {
                if let Some(error) = refused.remove(key) {
                    outcomes[at] = Err(error);
                }
            }
        }
        Ok(outcomes)
    }

    /// Asks for the deletion of `objects`; returns which were refused, and why.
    async fn delete_named(&self, objects: &[&(Key, ETag)]) -> Result<BTreeMap<Key, RemoteError>> {
        let object = |(key, etag): &&(Key, ETag)| {
            let key = reply::xml_text(&format!("{}{key}", self.prefix));
            let etag = reply::xml_text(&reply::quoted(etag));
            format!("<Object><Key>{key}</Key><ETag>{etag}</ETag></Object>")
        };
        let all: String = objects.iter().map(object).collect();
        let space = "http://s3.amazonaws.com/doc/2006-03-01/";
        let document = format!("<Delete xmlns=\"{space}\">{all}<Quiet>true</Quiet></Delete>");
        let body = Body::from(bytes::Bytes::from(document));
        let mut request = Request::new(Method::POST, format!("{}?delete=", self.bucket_url));
        reply::content_md5(&mut request.headers, body.bytes());
        reply::content_type(&mut request.headers, "application/xml");
        self.signer.checksum(&mut request.headers, &body);
        request.body = body.bytes().clone();
        let key = Key::from_raw("");
        let reply = match self.ask(&key, request).await {
            Err(error @ RemoteError::Rejected { .. }) => {
                tracing::info!(
                    store = self.name,
                    error = &error as &dyn std::error::Error,
                    "objects are deleted one by one from now on"
                );
                self.bulk_refused.store(true, Ordering::Relaxed);
                return Err(self.errors(&key).unsupported("delete many objects at once"));
            }
            reply => reply?,
        };
        let result = self.result(&key, &reply)?;
        let mut refused = BTreeMap::new();
        for error in result.all("Error") {
            let named = error.text_of("Key").and_then(|key| key.strip_prefix(&*self.prefix));
            let Some(key) = named.map(Key::from_raw) else { continue };
            let (code, message) =
                (error.text_of("Code").unwrap_or_default(), error.text_of("Message"));
            let error = Errors { store: &self.name, key: &key };
            let error = error.of_code(status_of(code), code, message.unwrap_or_default());
            if !matches!(error, RemoteError::NotFound { .. }) {
                refused.insert(key, error);
            }
        }
        Ok(refused)
    }

    /// The versions that objects have now.
    async fn versions_of(&self, objects: &[(Key, ETag)]) -> Result<BTreeMap<Key, ETag>> {
        let mut wanted: Vec<&Key> = objects.iter().map(|(key, _)| key).collect();
        wanted.sort_unstable();
        let mut found = BTreeMap::new();
        for group in wanted.chunk_by(|a, b| dir_of(a) == dir_of(b)) {
            let rest = self.list_versions(group, &mut found).await?;
            for &key in rest {
                match self.head(key).await {
                    Ok(there) => drop(found.insert(key.clone(), there.etag)),
                    Err(RemoteError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// The same of keys in one directory, in order. Returns those that were not come to.
    async fn list_versions<'k>(
        &self,
        keys: &'k [&'k Key],
        found: &mut BTreeMap<Key, ETag>,
    ) -> Result<&'k [&'k Key]> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(&[]) };
        if keys.len() == 1 {
            return Ok(keys);
        }
        let prefix = format!("{}{}", self.prefix, dir_of(first));
        // Behind all that comes before the first: its name without its last character.
        let mut behind = format!("{}{first}", self.prefix);
        behind.pop();
        let mut token: Option<String> = None;
        let mut reached = 0;
        for _ in 0..PAGES_MAX {
            let fixed = [
                ("list-type", "2"),
                ("encoding-type", "url"),
                ("max-keys", "1000"),
                ("prefix", &*prefix),
                ("start-after", &*behind),
            ];
            let next = token.as_deref().map(|token| ("continuation-token", token));
            let query = reply::query(&fixed.into_iter().chain(next).collect::<Vec<_>>());
            let request = Request::new(Method::GET, format!("{}?{query}", self.bucket_url));
            let reply = self.ask(first, request).await?;
            let page = self.listed(&self.errors(first).xml(&reply.body)?, &Key::from_raw(""))?;
            let end = page.objects.last().map(|object| object.key.clone());
            found.extend(page.objects.into_iter().map(|object| (object.key, object.etag)));
            token = page.next.map(|token| token.0);
            match end {
                Some(end) if token.is_some() && end < **last => {
                    reached = keys.partition_point(|key| **key <= end);
                }
                Some(_) | None => return Ok(&[]),
            }
        }
        Ok(&keys[reached..])
    }
}

/// The directory that an object is in, with its slash.
fn dir_of(key: &Key) -> &str {
    key.as_str()
        .trim_end_matches('/')
        .rsplit_once('/')
        .map_or("", |(dir, _)| &key.as_str()[..=dir.len()])
}

/// Whether a document can name it.
fn is_plain(key: &Key) -> bool {
    !key.as_str().contains(char::is_control)
}

/// The status that an error would have had by itself.
fn status_of(code: &str) -> StatusCode {
    match code {
        "AccessDenied" => StatusCode::FORBIDDEN,
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "InternalError" => StatusCode::INTERNAL_SERVER_ERROR,
        "SlowDown" | "ServiceUnavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_in_the_directory_before_its_name() {
        for (key, dir) in [("a/b/c", "a/b/"), ("a/b/", "a/"), ("a", ""), ("a/", "")] {
            assert_eq!(dir_of(&Key::from_raw(key)), dir, "{key}");
        }
    }
}
