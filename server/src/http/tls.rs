//! TLS, with rustls.

use std::path::Path;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads a certificate chain and its key, both PEM.
///
/// # Errors
/// A sentence about the file that can't be used.
pub fn config(certificates: &Path, key: &Path) -> Result<ServerConfig, String> {
    let problem = |path: &Path, error: &dyn std::fmt::Display| {
        format!(
            "{} can't be used for TLS ({error}): it must be a PEM file",
            path.display()
        )
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| problem(certificates, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| problem(key, &error))?;
    let provider = rustls::crypto::ring::default_provider();
    ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(key, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| problem(certificates, &error))
}
