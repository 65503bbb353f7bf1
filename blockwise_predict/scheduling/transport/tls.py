"""The run's key: scheduler and workers authenticate each other with it, over TLS 1.3.

The key is a key pair with a self-signed certificate, made at every start of the scheduler. Both
sides hold the same one and trust no other, so only those who have it get past the handshake. It is
stored in the run directory, readable by its owner only.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Valid at any time, since the clocks of a cluster's nodes may differ.
_ALWAYS = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def make_key() -> str:
    """A new key and its certificate, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "blockwise-predict")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_ALWAYS[0])
        .not_valid_after(_ALWAYS[1])
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def server_context(key: str) -> ssl.SSLContext:
    """The scheduler's side, which accepts only clients that have the key."""
    return _context(ssl.PROTOCOL_TLS_SERVER, key)


def client_context(key: str) -> ssl.SSLContext:
    """A worker's side, which accepts only a server that has the key.

    Raises ssl.SSLError if `key` is not the PEM of a key and its certificate.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, key)


def _context(protocol: int, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # This one certificate is trusted, whatever the peer's name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # OpenSSL loads a key only from a file. This one is private, and removed right away.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(key)
        file.flush()
        context.load_cert_chain(file.name)
        context.load_verify_locations(file.name)
    return context
