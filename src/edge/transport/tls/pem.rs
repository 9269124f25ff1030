//! Certificates and keys out of PEM files.
//!
//! What enters: the content of a file, and the setting that names it. What leaves: what rustls takes. Promise: an error
//! says which file is wrong and what belongs into it, and quotes nothing of it. Absent on purpose: keys with a passphrase.

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::edge::transport::reloading::{FileError, Named};

/// The certificates in a file, the server's or client's own first.
pub fn certificates(file: &Named, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    match found {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(file.unusable("no certificate in PEM form: it must hold `-----BEGIN CERTIFICATE-----`")),
    }
}

/// The private key in a file.
pub fn key(file: &Named, content: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    if find(content, b"ENCRYPTED") {
        return Err(
            file.unusable("the key has a passphrase: write it without (`openssl pkey -in KEY -out KEY`), mode 0600")
        );
    }
    PrivateKeyDer::from_pem_slice(content)
        .map_err(|_| file.unusable("no private key in PEM form: it must hold `-----BEGIN PRIVATE KEY-----`"))
}

/// The authorities in a file.
pub fn authorities(file: &Named, content: &[u8], roots: &mut RootCertStore) -> Result<(), FileError> {
    for certificate in certificates(file, content)? {
        roots
            .add(certificate)
            .map_err(|problem| file.unusable(format!("a certificate is not one of an authority ({problem})")))?;
    }
    Ok(())
}

fn find(content: &[u8], word: &[u8]) -> bool {
    content.windows(word.len()).any(|window| window == word)
}
