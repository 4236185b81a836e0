//! Files of certificates: what cannot be used is refused when it is read, and not a day and a half later.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use soramode_protocol::certificates::{Authorities, PEM_BYTES_MAX, check_certificates};

use super::ConfigError;

/// Reads the certificates of a setting's file.
pub(super) fn read_authorities(name: &'static str, path: &Path) -> Result<Authorities, ConfigError> {
    Authorities::from_pem(&read(path).map_err(|problem| wrong(name, path, problem))?).map_err(|problem| wrong(name, path, problem))
}

/// Reads a setting's file that has certificates, as it is.
pub(super) fn read_certificates(name: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read(path).map_err(|problem| wrong(name, path, problem))?;
    check_certificates(&pem).map_err(|problem| wrong(name, path, problem))?;
    Ok(pem)
}

/// Returns the error for a setting's file.
pub(super) fn wrong(name: &'static str, path: &Path, problem: String) -> ConfigError {
    ConfigError::SecretFile { name, path: path.to_owned(), problem }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem));
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if pem.len() as u64 > PEM_BYTES_MAX {
        return Err(format!("has more than {PEM_BYTES_MAX} bytes"));
    }
    Ok(pem)
}
