//! Google Cloud Storage, through its XML interface, which speaks like S3 but for headers and versions.

use std::path::Path;
use std::sync::Arc;

use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};

use super::credentials::FromFiles;
use super::env::{Env, GoogleSettings};
use super::http::Http;
use super::s3::{S3, Signer, no_retry};
use super::{OpenError, Result};
use crate::clock::Clock;

/// Opens a bucket; nothing is sent.
pub(super) fn open(
    bucket: &str,
    prefix: &str,
    name: String,
    env: &Env,
    http: Http,
    clock: Arc<dyn Clock>,
) -> Result<S3, OpenError> {
    let settings = GoogleSettings::read(env)?;
    let ambient = settings.credentials_file.is_none();
    let anonymous = settings.emulator || env.get("GOOGLE_SKIP_SIGNATURE") == Some("true");
    let credentials = match anonymous {
        true => None,
        false => {
            let from = (env.clone(), bucket.to_owned(), http.clone());
            let file = settings.credentials_file;
            let files = file.iter().cloned().collect();
            let make = move || provider(&from.0, &from.1, &from.2, file.as_deref());
            Some(FromFiles::open(files, make)?)
        }
    };
    let signer = Signer::Google { credentials, ambient };
    Ok(S3::new(&settings.endpoint, bucket, prefix, name, signer, http, clock))
}

/// What gives the tokens of a bucket.
fn provider(
    env: &Env,
    bucket: &str,
    http: &Http,
    file: Option<&Path>,
) -> Result<GcpCredentialProvider, OpenError> {
    let mut builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
    for (variable, value) in env.starting("GOOGLE_") {
        if let Ok(key) = variable.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(file) = file {
        builder = builder.with_application_credentials(file.to_string_lossy());
    }
    let store = builder
        .with_retry(no_retry())
        .with_http_connector(http.clone())
        .build()
        .map_err(|error| OpenError::Client { source: Box::new(error) })?;
    Ok(Arc::clone(store.credentials()))
}
