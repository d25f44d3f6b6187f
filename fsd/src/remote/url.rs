//! Where a share's objects are: `az://container/prefix`, `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A store, and the prefix of a share in it. There is no place for a secret in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RemoteUrl {
    /// Which store.
    pub place: Place,
    /// What every key of the share begins with: empty, or ending in `/`. Empty for a directory.
    pub prefix: String,
}

/// The kinds of stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A container of Azure Blob Storage; the account comes from the environment.
    Azure {
        /// Its name.
        container: String,
    },
    /// A bucket of S3, or of a store that speaks like it.
    S3 {
        /// Its name.
        bucket: String,
    },
    /// A bucket of Google Cloud Storage.
    Gcs {
        /// Its name.
        bucket: String,
    },
    /// A directory of this machine.
    Dir {
        /// Its absolute path.
        path: PathBuf,
    },
}

/// Why a text is no such URL. The message says what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No store is named so.
    #[error(
        "a remote is az://container/prefix, s3://bucket/prefix, gs://bucket/prefix or file:///path"
    )]
    Scheme,
    /// The URL has a part that none of ours has.
    #[error(
        "a remote's URL has no user, password, port or query: credentials and endpoint come from \
         the environment"
    )]
    Secret,
    /// No container or bucket can be called that.
    #[error("{name:?} is no name of a {what}: 3 to 63 lower-case letters, digits, dashes{more}")]
    Name {
        /// What was named.
        what: &'static str,
        /// The name.
        name: String,
        /// What else such a name may have.
        more: &'static str,
    },
    /// The prefix can't be a part of a key.
    #[error("the prefix {prefix:?} has an empty segment, `.` or `..`")]
    Prefix {
        /// The prefix.
        prefix: String,
    },
    /// The directory isn't given from the root.
    #[error("a directory is written from the root, with three slashes: file:///srv/mirror")]
    Relative,
}

impl FromStr for RemoteUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        if scheme == "file" {
            let relative = !rest.starts_with('/') || rest.split('/').any(|part| part == "..");
            let path = PathBuf::from(rest);
            return match relative {
                true => Err(UrlError::Relative),
                false => Ok(Self { place: Place::Dir { path }, prefix: String::new() }),
            };
        }
        if rest.contains(['@', '?', ':']) {
            return Err(UrlError::Secret);
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let place = match scheme {
            "az" => Place::Azure { container: checked(name, "container", "")? },
            "s3" => Place::S3 { bucket: checked(name, "bucket", ", dots and underscores")? },
            "gs" => Place::Gcs { bucket: checked(name, "bucket", ", dots and underscores")? },
            _ => return Err(UrlError::Scheme),
        };
        Ok(Self { place, prefix: checked_prefix(prefix)? })
    }
}

fn checked(name: &str, what: &'static str, more: &'static str) -> Result<String, UrlError> {
    let dots = !more.is_empty();
    let fits =
        |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-') || dots && matches!(b, b'.' | b'_');
    // `$root` and `$web` are containers that Azure itself makes.
    let of_azure = matches!(name, "$root" | "$web") && !dots;
    match (3..=63).contains(&name.len()) && name.bytes().all(fits) || of_azure {
        true => Ok(name.to_owned()),
        false => Err(UrlError::Name { what, name: name.to_owned(), more }),
    }
}

fn checked_prefix(prefix: &str) -> Result<String, UrlError> {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() {
        return Ok(String::new());
    }
    match prefix.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        true => Err(UrlError::Prefix { prefix: prefix.to_owned() }),
        false => Ok(format!("{prefix}/")),
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name) = match &self.place {
            Place::Azure { container } => ("az", container),
            Place::S3 { bucket } => ("s3", bucket),
            Place::Gcs { bucket } => ("gs", bucket),
            Place::Dir { path } => return write!(f, "file://{}", path.display()),
        };
        match self.prefix.strip_suffix('/') {
            Some(prefix) => write!(f, "{scheme}://{name}/{prefix}"),
            None => write!(f, "{scheme}://{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_as_they_are_read() {
        for (text, shown) in [
            ("az://photos", "az://photos"),
            ("az://photos/", "az://photos"),
            ("s3://my.bucket/a b/ä", "s3://my.bucket/a b/ä"),
            ("gs://bucket_1/x/", "gs://bucket_1/x"),
            ("file:///srv/mirror", "file:///srv/mirror"),
        ] {
            let url: RemoteUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url));
        }
        assert_eq!("s3://abc/x".parse::<RemoteUrl>().unwrap().prefix, "x/");
    }

    #[test]
    fn a_bad_url_is_told_what_is_right() {
        for (text, says) in [
            ("photos", "a remote is az://container/prefix"),
            ("http://host/x", "a remote is az://container/prefix"),
            ("s3://key:secret@bucket/x", "credentials and endpoint come from the environment"),
            ("az://photos?sig=x", "credentials and endpoint come from the environment"),
            ("az://My_Container", "3 to 63 lower-case letters, digits, dashes"),
            ("s3://ab", "3 to 63 lower-case letters, digits, dashes, dots and underscores"),
            ("s3://", "3 to 63"),
            ("s3://bucket/a//b", "has an empty segment"),
            ("gs://bucket/../b", "has an empty segment, `.` or `..`"),
            ("file://srv/mirror", "file:///srv/mirror"),
            ("file:///srv/../etc", "file:///srv/mirror"),
        ] {
            let error = text.parse::<RemoteUrl>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
