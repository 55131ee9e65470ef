"""CMS EnvelopedData (RFC 5652 §6): RSA key transport, the four ciphers that SCEP clients use."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from tools.simulator.wire import der
from tools.simulator.wire.cms import DATA, RSA_ENCRYPTION, CmsError, issuer_and_serial

ENVELOPED_DATA = "1.2.840.113549.1.7.3"


@dataclass(frozen=True, slots=True)
class Algorithm:
    dotted: str
    key_size: int
    block: int


ALGORITHMS = {
    "des": Algorithm("1.3.14.3.2.7", 8, 8),
    "3des": Algorithm("1.2.840.113549.3.7", 24, 8),
    "aes128": Algorithm("2.16.840.1.101.3.4.1.2", 16, 16),
    "aes256": Algorithm("2.16.840.1.101.3.4.1.42", 32, 16),
}
_BY_OID = {algorithm.dotted: name for name, algorithm in ALGORITHMS.items()}


@dataclass(frozen=True, slots=True)
class Opened:
    content: bytes
    algorithm: str


def _cipher(name: str, key: bytes, vector: bytes) -> Cipher[modes.CBC]:
    if name == "des":
        # Three equal keys make 3DES do what single DES does: encrypt, undo, encrypt.
        return Cipher(TripleDES(key * 3), modes.CBC(vector))
    if name == "3des":
        return Cipher(TripleDES(key), modes.CBC(vector))
    return Cipher(algorithms.AES(key), modes.CBC(vector))


def encrypt(content: bytes, recipient: x509.Certificate, algorithm: str) -> bytes:
    """An EnvelopedData for one RSA recipient, named by issuer and serial number."""
    public = recipient.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        raise CmsError("only RSA certificates can receive an envelope")
    chosen = ALGORITHMS[algorithm]
    key, vector = os.urandom(chosen.key_size), os.urandom(chosen.block)
    padder = PKCS7(chosen.block * 8).padder()
    encryptor = _cipher(algorithm, key, vector).encryptor()
    secret = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    recipient_info = der.sequence(
        der.integer(0),
        issuer_and_serial(recipient),
        der.sequence(der.oid(RSA_ENCRYPTION), der.null()),
        der.octets(public.encrypt(key, padding.PKCS1v15())),
    )
    encrypted = der.sequence(
        der.oid(DATA),
        der.sequence(der.oid(chosen.dotted), der.octets(vector)),
        der.tlv(0x80, secret),
    )
    body = der.sequence(der.integer(0), der.set_of(recipient_info), encrypted)
    return der.sequence(der.oid(ENVELOPED_DATA), der.explicit(0, body))


def decrypt(data: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> Opened:
    """Open an EnvelopedData addressed to `certificate`. Raises CmsError."""
    try:
        return _decrypt(data, certificate, key)
    except (IndexError, KeyError, ValueError) as error:
        raise CmsError(f"envelope refused: {error}") from error


def _decrypt(data: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> Opened:
    info = der.read(data)
    if info.child(0).oid() != ENVELOPED_DATA:
        raise CmsError(f"content type {info.child(0).oid()} is no EnvelopedData")
    members = info.child(1, 0xA0).child(0, der.SEQUENCE).children()
    recipients = next(node for node in members if node.tag == der.SET)
    mine = [
        node
        for node in recipients.children()
        if node.child(1).raw == issuer_and_serial(certificate)
    ]
    if not mine:
        raise CmsError("the envelope is addressed to somebody else")
    content_key = key.decrypt(mine[0].child(3).octets(), padding.PKCS1v15())
    encrypted = members[-1].expect(der.SEQUENCE).children()
    name = _BY_OID[encrypted[1].child(0).oid()]
    if len(content_key) != ALGORITHMS[name].key_size:
        raise CmsError(f"a content key of {len(content_key)} bytes does not fit {name}")
    decryptor = _cipher(name, content_key, encrypted[1].child(1).octets()).decryptor()
    padded = decryptor.update(encrypted[2].octets()) + decryptor.finalize()
    unpadder = PKCS7(ALGORITHMS[name].block * 8).unpadder()
    return Opened(unpadder.update(padded) + unpadder.finalize(), name)
