"""Certificates for tests: two authorities, one of which nobody has reason to trust, and what each of them signed.

In:  a folder, and the address of the server.
Out: files in it: ca.pem, server.pem, server.key, client.pem, client.key; and the stranger's, as stranger-ca.pem and so on.
Promise: made anew for each test and valid for an hour, so nothing secret is kept in the repository.
"""

import datetime
import ipaddress

from packages import PACKAGES  # noqa: F401  (makes the next line find what is installed there)

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def make(folder, address):
    folder.mkdir(exist_ok=True)
    for prefix in ("", "stranger-"):
        authority = _key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{prefix}harbinger test CA")])
        _write(folder / f"{prefix}ca.pem", _certificate(authority, authority[1], authority[0], None))
        for role, usage in (("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH)):
            key, name = _key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{prefix}{role}")])
            _write(folder / f"{prefix}{role}.pem", _certificate(authority, name, key, usage, address))
            _write(folder / f"{prefix}{role}.key", key)
    return folder


def _key():
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(authority, name, key, usage, address="127.0.0.1"):
    """Signed by the authority; one for itself (`usage` None) is an authority's."""
    authority_key, issuer = authority
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if usage is None:
        may = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            False,
        )
        use = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **may)
        builder = builder.add_extension(use, critical=True)
    else:
        names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _write(path, what):
    if isinstance(what, x509.Certificate):
        path.write_bytes(what.public_bytes(serialization.Encoding.PEM))
        return
    path.touch(mode=0o600)
    path.write_bytes(
        what.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
