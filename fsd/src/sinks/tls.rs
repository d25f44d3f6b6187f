//! Whose certificates are believed.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::outlet::SinkError;
use super::target::Access;

/// TLS to a sink: its certificate is believed by the system's authorities, and by those of its file.
pub(super) fn client(access: &Access) -> Result<ClientConfig, SinkError> {
    // Fails if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    // What can't be read of the system's is missed when a certificate is looked at.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &access.ca_file {
        let bad = || SinkError::Bad { path: path.clone(), what: "certificate in PEM in it" };
        let pem =
            std::fs::read(path).map_err(|source| SinkError::File { path: path.clone(), source })?;
        let found: Vec<_> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| bad())?;
        if found.is_empty() {
            return Err(bad());
        }
        roots.add_parsable_certificates(found);
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
