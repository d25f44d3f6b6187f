//! TLS before a server, with a certificate by an authority that nobody knows.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::files::run;

/// Takes TLS connections for a server and passes on what is in them.
#[derive(Debug)]
pub struct Tls {
    folder: TempDir,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Tls {
    /// TLS before the server at `server`.
    ///
    /// # Errors
    /// If there is no `openssl` to make certificates.
    pub fn before(server: SocketAddr) -> Result<Self> {
        // Fails if there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::with_prefix("fsd-tls-")?;
        let at = |name: &str| folder.path().join(name);
        make_certificates(folder.path()).context("openssl makes certificates")?;
        let chain = CertificateDer::pem_file_iter(at("server.pem"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(at("server.key"))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let serve = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let mut client = acceptor.accept(client).await?;
                    let mut upstream = TcpStream::connect(server).await?;
                    copy_bidirectional(&mut client, &mut upstream).await
                });
            }
        };
        runtime.handle().spawn(serve);
        Ok(Self { folder, address, _runtime: runtime })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority, in PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

fn make_certificates(folder: &Path) -> Result<()> {
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost")?;
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {new} -days 2 -subj /CN=fsd-tests -keyout ca.key -out ca.pem"),
        format!("req {new} -subj /CN=localhost -keyout server.key -out server.csr"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names \
         -out server.pem"
            .to_owned(),
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args(line.split_whitespace()).current_dir(folder);
        run(&mut openssl).map_err(|error| anyhow!("{error:#}"))?;
    }
    Ok(())
}
