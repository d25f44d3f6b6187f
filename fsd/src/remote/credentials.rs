//! Credentials that come from files are read again when the files change, so that keys can be replaced under a mount.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use object_store::CredentialProvider;

use super::OpenError;

/// What gives credentials.
pub(super) type Provider<C> = Arc<dyn CredentialProvider<Credential = C>>;

type Make<C> = Box<dyn Fn() -> Result<Provider<C>, OpenError> + Send + Sync>;

/// What tells whether a file is the one that was read; none if it is not there.
type Seen = Option<(u64, i64, i64, u64)>;

/// Credentials from files.
pub(super) struct FromFiles<C> {
    files: Vec<PathBuf>,
    make: Make<C>,
    held: Mutex<(Vec<Seen>, Provider<C>)>,
}

impl<C: fmt::Debug + Send + Sync + 'static> FromFiles<C> {
    /// What `make` gives, and gives again whenever one of `files`, which it reads, is another one.
    pub(super) fn open(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<Provider<C>, OpenError> + Send + Sync + 'static,
    ) -> Result<Provider<C>, OpenError> {
        let seen = files.iter().map(|file| see(file)).collect();
        let provider = make()?;
        if files.is_empty() {
            return Ok(provider);
        }
        let held = Mutex::new((seen, provider));
        Ok(Arc::new(Self { files, make: Box::new(make), held }))
    }

    fn current(&self) -> Provider<C> {
        let seen: Vec<Seen> = self.files.iter().map(|file| see(file)).collect();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.0 != seen {
            held.0 = seen;
            match (self.make)() {
                Ok(provider) => {
                    held.1 = provider;
                    tracing::info!(files = ?self.files, "other credentials were read");
                }
                // It may be half written: then it is another one again in a moment.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(files = ?self.files, error, "other credentials can't be read: those from before count on");
                }
            }
        }
        held.1.clone()
    }
}

fn see(file: &Path) -> Seen {
    let stat = std::fs::metadata(file).ok()?;
    Some((stat.ino(), stat.mtime(), stat.mtime_nsec(), stat.len()))
}

#[async_trait]
impl<C: fmt::Debug + Send + Sync + 'static> CredentialProvider for FromFiles<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        self.current().get_credential().await
    }
}

impl<C> fmt::Debug for FromFiles<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFiles").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use object_store::StaticCredentialProvider;

    use super::*;

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_one_that_can_not_be_read_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "first").unwrap();
        let file = path.clone();
        let make = move || -> Result<Provider<String>, OpenError> {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            match text.as_str() {
                "" => Err(OpenError::Missing { what: "a key", hint: "the file" }),
                text => Ok(Arc::new(StaticCredentialProvider::new(text.to_owned()))),
            }
        };
        let provider = FromFiles::open(vec![path.clone()], make).unwrap();
        for (text, expected) in [("first", "first"), ("next", "next"), ("", "next"), ("x", "x")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(*provider.get_credential().await.unwrap(), expected);
        }
        assert!(!format!("{provider:?}").contains("next"));
    }
}
