//! Certificates and keys in PEM files that the operator names. Reading a file finds the problems in
//! it.

use std::fmt;
use std::sync::Arc;

use reqwest::{Certificate, Client};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::crypto::install_crypto;

/// The largest file of certificates or of a key, in bytes.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Certificate authorities that are trusted in addition to the system's.
#[derive(Clone, Default)]
pub struct Authorities {
    pem: Arc<[u8]>,
    certificates: Arc<[Certificate]>,
    roots: Arc<[CertificateDer<'static>]>,
}

impl Authorities {
    /// Parses the bytes of a PEM file. The error describes the problem.
    pub fn from_pem(pem: &[u8]) -> Result<Self, String> {
        check_certificates(pem)?;
        let roots = read_certificates(pem)?;
        let certificates = Certificate::from_pem_bundle(pem).map_err(|_| UNUSABLE.to_owned())?;
        // Building a client finds bytes inside the PEM that are no certificate.
        install_crypto();
        Client::builder()
            .tls_certs_only(certificates.iter().cloned())
            .build()
            .map_err(|_| UNUSABLE.to_owned())?;
        Ok(Self {
            pem: pem.into(),
            certificates: certificates.into(),
            roots: roots.into(),
        })
    }

    /// Returns the certificates, for a client.
    pub(crate) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Returns the certificates, for TLS settings.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.certificates.len())
    }
}

const UNUSABLE: &str = "has a certificate that cannot be used";

/// Checks that a file has a certificate in PEM.
pub fn check_certificates(pem: &[u8]) -> Result<(), String> {
    let certificates = read_certificates(pem)?;
    if certificates.is_empty() {
        return Err("has no PEM certificate; one in DER is made into PEM by: openssl x509 -inform DER -in FILE -out FILE.pem".to_owned());
    }
    Ok(())
}

/// Checks that a certificate's file and a key's file belong together.
pub fn check_identity(certificates: &[u8], key: &[u8]) -> Result<(), String> {
    let found = PrivateKeyDer::from_pem_slice(key).map_err(|_| no_key(key))?;
    let identity =
        CertifiedKey::from_der(read_certificates(certificates)?, found, &default_provider());
    identity.map(drop).map_err(|error| {
        let is_anothers = matches!(error, rustls::Error::InconsistentKeys(_));
        let problem = if is_anothers {
            "that is not the certificate's"
        } else {
            "that cannot be used; RSA, ECDSA P-256 and P-384, Ed25519 can"
        };
        format!("has a key {problem}")
    })
}

fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "has a PEM certificate that is damaged".to_owned())
}

fn no_key(pem: &[u8]) -> String {
    let is_encrypted = pem
        .windows(ENCRYPTED.len())
        .any(|window| window == ENCRYPTED);
    if is_encrypted {
        return "has a key that is encrypted; write it without a passphrase: openssl pkey -in FILE -out FILE.pem".to_owned();
    }
    "has no PEM private key".to_owned()
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";
