//! TLS, with rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate chain and its key, in files that may be read anew.
pub struct Tls {
    certificates: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// A sentence about the file that can't be used.
    pub fn open(certificates: &Path, key: &Path) -> Result<Self, String> {
        Ok(Tls {
            certificates: certificates.into(),
            key: key.into(),
            current: RwLock::new(config(certificates, key)?),
        })
    }

    /// Reads both files anew: for connections from now on.
    ///
    /// # Errors
    /// A sentence about the file that can't be used; what there was stays.
    pub fn reload(&self) -> Result<(), String> {
        let config = config(&self.certificates, &self.key)?;
        *self.current.write() = config;
        Ok(())
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.read().clone()
    }
}

fn config(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
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
    let mut config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(key, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| problem(certificates, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
