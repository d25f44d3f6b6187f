//! Azurite, Microsoft's own emulator of Azure Blob Storage.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use http::{HeaderValue, Method};
use object_store::ClientOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector as _, HttpRequest, HttpRequestBody, ReqwestConnector};

use super::{BUCKET, Variables, variables};

const VERSION: &str = "azurite@3";
const ACCOUNT: &str = "devstoreaccount1";
/// Published by Microsoft; every Azurite has it.
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running Azurite that holds its blobs in memory.
#[derive(Debug)]
pub struct Azurite {
    process: Child,
    endpoint: String,
}

impl Azurite {
    /// Starts a server with the container [`BUCKET`](super::BUCKET). The first start fetches it from npm.
    ///
    /// # Errors
    /// Says what is missing on this machine.
    pub fn start() -> Result<Self, String> {
        let mut process = Command::new(program()?)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"])
            .args(["--disableTelemetry", "--skipApiVersionCheck"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("Azurite does not start: {error}"))?;
        let stdout = process.stdout.take().ok_or("Azurite has no output")?;
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let url = lines
            .find_map(|line| Some(line.split_once("listens on ")?.1.to_owned()))
            .ok_or("Azurite does not say where it listens")?;
        // Its log must be read on, or it stops at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let azurite = Self { process, endpoint: format!("{url}/{ACCOUNT}") };
        azurite.make_container()?;
        Ok(azurite)
    }

    /// What a process must have in its environment.
    #[must_use]
    pub fn variables(&self) -> Variables {
        let string =
            format!("AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={};", self.endpoint);
        variables([("AZURE_STORAGE_CONNECTION_STRING", &string)])
    }

    fn make_container(&self) -> Result<(), String> {
        // Fails if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let error = |error: &dyn std::fmt::Display| format!("no container: {error}");
        let key = AzureAccessKey::try_new(KEY).map_err(|e| error(&e))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::PUT;
        let url = format!("{}/{BUCKET}?restype=container", self.endpoint);
        *request.uri_mut() = url.parse().map_err(|e| error(&e))?;
        request.headers_mut().insert("content-length", HeaderValue::from_static("0"));
        AzureAuthorizer::new(&AzureCredential::AccessKey(key), ACCOUNT)
            .try_authorize(&mut request)
            .map_err(|e| error(&e))?;
        let client = ReqwestConnector::default();
        let client =
            client.connect(&ClientOptions::new().with_allow_http(true)).map_err(|e| error(&e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let work = async move { client.execute(request).await };
        // On a thread of its own: the caller may be inside a runtime.
        let answer = std::thread::spawn(move || runtime.map(|runtime| runtime.block_on(work)));
        let answer = answer.join().map_err(|_| error(&"a panic"))?.map_err(|e| error(&e))?;
        match answer.map_err(|e| error(&e))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(error(&status)),
        }
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The server's program, fetched into the build folder once.
fn program() -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/azurite");
    let program = folder.join("node_modules/.bin/azurite-blob");
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // One test at a time fetches it.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !program.exists() {
        let npm = Command::new("npm")
            .args(["install", "--no-save", "--no-audit", "--no-fund", VERSION])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("npm does not run: {error}"))?;
        if !npm.status.success() {
            return Err(format!(
                "npm can't fetch Azurite: {}",
                String::from_utf8_lossy(&npm.stderr)
            ));
        }
    }
    Ok(program)
}
