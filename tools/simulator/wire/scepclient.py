"""A SCEP client over HTTP: capabilities, certificates, requests by GET or POST (RFC 8894 §4)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from tools.simulator.wire import cms, scep
from tools.simulator.wire.profile import ScepPayload

ONE_CERTIFICATE = "application/x-x509-ca-cert"
CERTIFICATE_LIST = "application/x-x509-ca-ra-cert"
PKI_MESSAGE = "application/x-pki-message"
_OK = 200


@dataclass(frozen=True, slots=True)
class Options:
    """Choices of a client; None means: as the authority's capabilities allow."""

    cipher: str | None = None
    digest: str | None = None
    method: str | None = None
    message_in_query: bool = False
    """POST with the message in the address too, as clients in the field do (apple.md 1.12, 4)."""


@dataclass(frozen=True, slots=True)
class Authority:
    capabilities: frozenset[str]
    certificates: Sequence[x509.Certificate]

    @property
    def recipient(self) -> x509.Certificate:
        """Who requests are encrypted to: the RA (may encipher keys, is no CA), else the CA."""
        for certificate in self.certificates:
            if _may_encipher(certificate) and not _is_ca(certificate):
                return certificate
        return self.certificates[0]

    @property
    def issuers(self) -> list[x509.Certificate]:
        return [certificate for certificate in self.certificates if _is_ca(certificate)]

    @property
    def cipher(self) -> str:
        if self.capabilities & {"AES", "SCEPSTANDARD"}:
            return "aes128"
        return "3des" if "DES3" in self.capabilities else "des"

    @property
    def digest(self) -> str:
        return "sha256" if self.capabilities & {"SHA-256", "SCEPSTANDARD"} else "sha1"

    @property
    def method(self) -> str:
        return "POST" if self.capabilities & {"POSTPKIOPERATION", "SCEPSTANDARD"} else "GET"


class ScepClient:
    """Asks one authority for certificates as a profile's SCEP payload says."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        payload: ScepPayload,
        options: Options = Options(),
        authority: Authority | None = None,
    ) -> None:
        self._session = session
        self._payload = payload
        self._options = options
        self._authority = authority

    async def enroll(self, key: rsa.RSAPrivateKey) -> scep.Issued:
        """PKCSReq: a self-signed request with the payload's challenge. Raises ScepError."""
        subject = scep.subject_name(self._payload.subject)
        return await self._ask(key, scep.self_signed(key, subject), scep.PKCS_REQ)

    async def renew(self, key: rsa.RSAPrivateKey, current: cms.Identity) -> scep.Issued:
        """RenewalReq: signed by the current certificate, without a challenge (RFC 8894 3.3.1.2)."""
        return await self._ask(key, current, scep.RENEWAL_REQ)

    async def authority(self) -> Authority:
        if self._authority is None:
            capabilities = await self._get("GetCACaps")
            words = capabilities.body.decode("utf-8", "replace").upper().split()
            self._authority = Authority(frozenset(words), await self._certificates())
            self._check_fingerprint(self._authority)
        return self._authority

    async def send(self, sent: scep.Request) -> scep.Issued:
        """Send a prepared request, however odd, and open the answer."""
        authority = await self.authority()
        answer = await self._transport(sent.message, self._options.method or authority.method)
        if answer.status != _OK:
            raise scep.ScepError(f"PKIOperation answered {answer.status}")
        if answer.content_type != PKI_MESSAGE:
            raise scep.ScepError(f"PKIOperation answered in {answer.content_type!r}")
        issued = scep.open_reply(answer.body, sent, authority.certificates)
        if not any(_issued_by(issued.certificate, issuer) for issuer in authority.issuers):
            raise scep.ScepError("the certificate was issued by no CA of this authority")
        return issued

    async def _ask(
        self, key: rsa.RSAPrivateKey, signer: cms.Identity, message_type: str
    ) -> scep.Issued:
        authority = await self.authority()
        challenge = self._payload.challenge if message_type == scep.PKCS_REQ else None
        csr = scep.certificate_request(key, scep.subject_name(self._payload.subject), challenge)
        sent = scep.request(
            csr,
            key,
            signer,
            authority.recipient,
            message_type=message_type,
            cipher=self._options.cipher or authority.cipher,
            digest=self._options.digest or authority.digest,
        )
        return await self.send(sent)

    async def _certificates(self) -> list[x509.Certificate]:
        answer = await self._get("GetCACert")
        if answer.content_type == ONE_CERTIFICATE:
            return [x509.load_der_x509_certificate(answer.body)]
        if answer.content_type == CERTIFICATE_LIST:
            return cms.certificates_of(answer.body)
        # Clients compare the whole header with these two strings (apple.md 1.6).
        raise scep.ScepError(f"GetCACert answered in {answer.content_type!r}")

    def _check_fingerprint(self, authority: Authority) -> None:
        wanted = self._payload.fingerprint
        if wanted is None:
            return
        algorithms = {16: hashes.MD5(), 20: hashes.SHA1(), 32: hashes.SHA256()}  # noqa: S303
        algorithm = algorithms.get(len(wanted))
        if algorithm is None:
            raise scep.ScepError(f"CAFingerprint of {len(wanted)} bytes")
        if not any(one.fingerprint(algorithm) == wanted for one in authority.certificates):
            raise scep.ScepError("no certificate of the authority has the profile's CAFingerprint")

    async def _get(self, operation: str) -> _Answer:
        query = f"operation={operation}"
        if self._payload.name:
            query += f"&message={quote(self._payload.name, safe='')}"
        answer = await self._exchange("GET", query, None)
        if answer.status != _OK:
            raise scep.ScepError(f"{operation} answered {answer.status}")
        return answer

    async def _transport(self, message: bytes, method: str) -> _Answer:
        query = "operation=PKIOperation"
        if method == "GET" or self._options.message_in_query:
            query += f"&message={quote(base64.b64encode(message).decode(), safe='')}"
        return await self._exchange(method, query, message if method == "POST" else None)

    async def _exchange(self, method: str, query: str, body: bytes | None) -> _Answer:
        joint = "&" if "?" in self._payload.url else "?"
        url = URL(f"{self._payload.url}{joint}{query}", encoded=True)
        headers = {"Content-Type": PKI_MESSAGE} if body is not None else None
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            content_type = answer.headers.get("Content-Type", "")
            return _Answer(answer.status, content_type, await answer.read())


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _may_encipher(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage.key_encipherment
