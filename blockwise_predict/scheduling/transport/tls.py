"""The run's key: what scheduler and workers show each other, over TLS 1.3.

One key pair with a certificate of its own, made anew at every start of the scheduler, which both
ends hold and which is the only one that either trusts. Whoever has it belongs to the run; nobody
else gets past the handshake. It stands in the run directory, readable by its owner alone.
"""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Clocks of a cluster's nodes differ, and the key is as old as its scheduler: no date is checked.
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
    """The scheduler's end: it shows the key, and admits those who show it, too."""
    return _context(ssl.PROTOCOL_TLS_SERVER, key)


def client_context(key: str) -> ssl.SSLContext:
    """A worker's end. Raises ssl.SSLError if `key` is none."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, key)


def _context(protocol: int, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Not names but this one certificate is trusted.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # OpenSSL takes a key from a file only; this one nobody else may read, and it goes at once.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(key)
        file.flush()
        context.load_cert_chain(file.name)
        context.load_verify_locations(file.name)
    return context
