"""What devices call: profiles, SCEP, check-ins, CRL, OCSP. Addresses that never change."""

from __future__ import annotations

from aiohttp import web

from services.enrollment import metrics
from services.enrollment.apple import messages, profile, scep
from services.enrollment.apple.scep import ScepError
from services.enrollment.authorities import Authorities
from services.enrollment.checkins import CheckIns
from services.enrollment.handouts import Handouts
from services.enrollment.issuing import Issuing
from services.enrollment.pki.revocation import MAX_OCSP_REQUEST
from services.enrollment.revocations import Revocations
from shared.runtime.http import read_body
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

CHECK_INS = web.AppKey("enrollment.check_ins", CheckIns)
HANDOUTS = web.AppKey("enrollment.handouts", Handouts)
ISSUING = web.AppKey("enrollment.issuing", Issuing)
AUTHORITIES = web.AppKey("enrollment.authorities", Authorities)
REVOCATIONS = web.AppKey("enrollment.revocations", Revocations)

_MAX_TOKEN = 200
_OCSP_TYPE = "application/ocsp-response"


async def get_profile(request: web.Request) -> web.StreamResponse:
    """GET /enroll/apple/{token}: the enrollment profile; spends one use of the credential."""
    token = request.match_info["token"]
    if len(token) > _MAX_TOKEN:
        raise Problem(403, "credential_unknown", "There is no such credential.")
    unsigned = request.query.get("unsigned") == "1"
    document = await request.config_dict[HANDOUTS].hand_out(
        token, unsigned=unsigned, source=request.remote
    )
    return _answer(document, profile.CONTENT_TYPE, {"Cache-Control": "no-store"})


async def check_in(request: web.Request) -> web.StreamResponse:
    """PUT or POST /mdm/apple/checkin, with or without a content type."""
    body = await read_body(request)
    signature = request.headers.get("Mdm-Signature")
    reply = await request.config_dict[CHECK_INS].answer(signature, body, request.remote)
    content_type = reply.content_type if reply.body else None
    return _answer(reply.body, content_type, status=reply.status)


async def scep_operation(request: web.Request) -> web.StreamResponse:
    """GET or POST /scep/{challenge}: GetCACaps, GetCACert, PKIOperation (RFC 8894 §4).

    The address is read raw: a message may stand in it whole, percent-encoded and no UTF-8.
    """
    try:
        content_type, body = await _scep_answer(request)
    except ScepError:
        metrics.SCEP_REQUESTS.labels("unread", "malformed").inc()
        raise Problem(400, "scep_malformed", "This is no SCEP message.") from None
    return _answer(body, content_type)


async def _scep_answer(request: web.Request) -> tuple[str, bytes]:
    """Content type and body; raises ScepError for what is no SCEP."""
    issuing = request.config_dict[ISSUING]
    query = scep.parse_query(request.raw_path.partition("?")[2])
    if query.operation == "GetCACaps":
        return scep.CAPS_TYPE, scep.CAPABILITIES
    if query.operation == "GetCACert":
        return issuing.ca_certificates()
    if query.operation != "PKIOperation":
        raise ScepError("no known operation")
    body = await read_body(request) if request.method == "POST" else b""
    data = scep.message_of(query, body)
    return scep.MESSAGE_TYPE, await issuing.operate(request.match_info["challenge"], data)


async def get_crl(request: web.Request) -> web.StreamResponse:
    """GET /pki/crl/{name}.crl: the newest CRL, DER."""
    name = request.match_info["name"]
    return _answer(await request.config_dict[REVOCATIONS].crl(name), "application/pkix-crl")


async def get_ca(request: web.Request) -> web.StreamResponse:
    """GET /pki/ca/{name}.cer: the CA certificate, DER."""
    authority = request.config_dict[AUTHORITIES].current
    if request.match_info["name"] != authority.name:
        raise Problem(404, "authority_unknown", "There is no such authority.")
    return _answer(authority.ca.certificate_bytes, "application/pkix-cert")


async def get_ocsp(request: web.Request) -> web.StreamResponse:
    """GET /pki/ocsp/{request in base64} (RFC 6960 §A.1)."""
    raw = request.raw_path.partition("?")[0].removeprefix("/pki/ocsp/")
    return _answer(await request.config_dict[REVOCATIONS].ocsp_get(raw), _OCSP_TYPE)


async def post_ocsp(request: web.Request) -> web.StreamResponse:
    """POST /pki/ocsp (RFC 6960 §A.1)."""
    data = await read_body(request)
    return _answer(await request.config_dict[REVOCATIONS].ocsp(data), _OCSP_TYPE)


def _answer(
    body: bytes,
    content_type: str | None,
    headers: dict[str, str] | None = None,
    status: int = 200,
) -> web.Response:
    """Exactly this content type, without parameters: SCEP clients compare the whole header."""
    given = dict(headers or {})
    if content_type is not None:
        given["Content-Type"] = content_type
    return web.Response(body=body, status=status, headers=given)


ROUTES = (
    Route(
        "GET",
        "/enroll/apple/{token}",
        get_profile,
        listener="devices",
        summary="An enrollment profile",
    ),
    *(
        Route(
            method,
            "/mdm/apple/checkin",
            check_in,
            listener="devices",
            summary="An Apple check-in",
            max_body=messages.LIMITS.max_bytes,
        )
        for method in ("PUT", "POST")
    ),
    *(
        Route(
            method,
            path,
            scep_operation,
            listener="devices",
            summary="SCEP",
            max_body=scep.MAX_MESSAGE,
        )
        for method in ("GET", "POST")
        for path in ("/scep/{challenge}", "/scep/{challenge}/{rest:.*}")
    ),
    Route(
        "GET",
        "/pki/crl/{name}.crl",
        get_crl,
        listener="devices",
        summary="A certificate revocation list",
    ),
    Route("GET", "/pki/ca/{name}.cer", get_ca, listener="devices", summary="A CA certificate"),
    Route("GET", "/pki/ocsp/{request:.+}", get_ocsp, listener="devices", summary="An OCSP answer"),
    Route(
        "POST",
        "/pki/ocsp",
        post_ocsp,
        listener="devices",
        summary="An OCSP answer",
        max_body=MAX_OCSP_REQUEST,
    ),
)
