//! Files of certificates. Unusable ones are refused when they are read, not at their first use.

use std::path::Path;

use soramode_protocol::certificates::{Authorities, PEM_BYTES_MAX, check_certificates};
use soramode_protocol::small_file::{self, Guard};

use super::error::ConfigError;

/// Reads the certificates of a setting's file.
pub(super) fn read_authorities(
    name: &'static str,
    path: &Path,
) -> Result<Authorities, ConfigError> {
    Authorities::from_pem(&read(path).map_err(|problem| wrong(name, path, problem))?)
        .map_err(|problem| wrong(name, path, problem))
}

/// Reads a setting's file that has certificates, as it is.
pub(super) fn read_certificates(name: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let pem = read(path).map_err(|problem| wrong(name, path, problem))?;
    check_certificates(&pem).map_err(|problem| wrong(name, path, problem))?;
    Ok(pem)
}

/// Returns the error for a setting's file.
pub(super) fn wrong(name: &'static str, path: &Path, problem: String) -> ConfigError {
    ConfigError::SecretFile {
        name,
        path: path.to_owned(),
        problem,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    small_file::read(path, PEM_BYTES_MAX, Guard::Nothing)
}
