"""A real OpenID provider on this machine: idpyoidc's, behind aiohttp, with everybody let in.

What it sends can be spoilt: `spoil` changes an ID token after it was made.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import aiohttp
import orjson
from aiohttp import web
from idpyoidc.server import Server
from idpyoidc.server.configure import OPConfiguration
from joserfc import jwt
from joserfc.jwk import JWKRegistry

SECRET = "a-secret-of-the-test-0123456789ab"
CLIENT = "muster"
_KEYS = {
    "key_defs": [
        {"type": "OCT", "use": ["enc"], "kid": "password"},
        {"type": "OCT", "use": ["enc"], "kid": "salt"},
    ]
}
Spoil = Callable[[dict[str, Any]], dict[str, Any] | str]


@dataclass
class Idp:
    """`user`: who is signed in there, as the next to come; `asked`: how often each path was."""

    server: Server
    issuer: str
    spoil: Spoil | None = None
    user: str = "diana"
    asked: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    """Whether it keeps its own name out of what browsers bring back."""

    def knows(self, redirect_uri: str, alg: str = "ES256") -> None:
        """Let Muster be a client that comes back there."""
        self.server.context.cdb[CLIENT] = {
            "client_secret": SECRET,
            "redirect_uris": [(redirect_uri, None)],
            "client_salt": "salted",
            "token_endpoint_auth_method": "client_secret_basic",
            "response_types_supported": ["code"],
            "allowed_scopes": ["openid", "profile", "email"],
            "id_token_signed_response_alg": alg,
        }
        self.server.keyjar.add_symmetric(CLIENT, SECRET)

    async def visited(self, url: str) -> dict[str, str]:
        """Go there as a browser would; what it is sent back with."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            assert answer.status == 302, await answer.text()
            return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))

    def private_key(self, kid: str) -> Any:
        """The key by which it signs, as JWK."""
        keys = self.server.keyjar.export_jwks(private=True)["keys"]
        return JWKRegistry.import_key(next(key for key in keys if key["kid"] == kid))

    def signed(self, header: Mapping[str, Any], claims: dict[str, Any]) -> str:
        key = self.private_key(header["kid"])
        return jwt.encode(dict(header), claims, key, algorithms=[header["alg"]])


def _configured(issuer: str, folder: Path) -> Server:
    base = "idpyoidc.server"
    conf = {
        "issuer": issuer,
        "key_conf": {
            "key_defs": [
                {"type": "RSA", "use": ["sig"]},
                {"type": "EC", "crv": "P-256", "use": ["sig"]},
                {"type": "OKP", "crv": "Ed25519", "use": ["sig"]},
            ],
            "uri_path": "jwks",
        },
        "endpoint": {
            "provider_config": {
                "path": ".well-known/openid-configuration",
                "class": f"{base}.oidc.provider_config.ProviderConfiguration",
                "kwargs": {},
            },
            "authorization": {
                "path": "authorize",
                "class": f"{base}.oidc.authorization.Authorization",
                "kwargs": {"response_types_supported": ["code"]},
            },
            "token": {
                "path": "token",
                "class": f"{base}.oidc.token.Token",
                "kwargs": {"client_authn_method": ["client_secret_basic", "client_secret_post"]},
            },
        },
        "token_handler_args": {
            "jwks_def": {
                "private_path": str(folder / "tokens.json"),
                "read_only": False,
                "key_defs": [{"type": "oct", "bytes": 24, "use": ["enc"], "kid": "code"}],
            },
            "code": {
                "lifetime": 600,
                "kwargs": {"crypt_conf": {"kwargs": {"keys": _KEYS, "iterations": 1}}},
            },
            "token": {
                "class": f"{base}.token.jwt_token.JWTToken",
                "kwargs": {"lifetime": 3600, "aud": [issuer]},
            },
            "id_token": {
                "class": f"{base}.token.id_token.IDToken",
                "kwargs": {"base_claims": {"email": None, "email_verified": None, "name": None}},
            },
        },
        "authentication": {
            "everybody": {
                "acr": "pwd",
                "class": f"{base}.user_authn.user.NoAuthn",
                "kwargs": {"user": "diana"},
            }
        },
        "userinfo": {
            "class": f"{base}.user_info.UserInfo",
            "kwargs": {"db": {name: _user(name) for name in ("diana", "mallory")}},
        },
        "add_ons": {
            "pkce": {
                "function": f"{base}.oauth2.add_on.pkce.add_support",
                "kwargs": {"essential": True},
            }
        },
        "session_params": {"encrypter": {"kwargs": {"keys": _KEYS, "iterations": 1}}},
    }
    return Server(OPConfiguration(conf=conf, base_path=str(folder)))


def _user(name: str) -> dict[str, Any]:
    return {
        "name": name.capitalize(),
        "email": f"{name}@example.org",
        "email_verified": True,
    }


async def _endpoint(idp: Idp, name: str, given: Any, http_info: dict[str, Any]) -> Any:
    """Ask the library; its answer, ready to be sent."""
    endpoint = idp.server.get_endpoint(name)
    parsed = endpoint.parse_request(given, http_info=http_info)
    if "error" in parsed:
        return {"response_args": parsed.to_dict()}, parsed
    return endpoint.process_request(parsed), parsed


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Idp]:
    """The provider, on a port of its own."""
    app = web.Application()
    runner = web.AppRunner(app)

    async def configuration(request: web.Request) -> web.Response:
        idp.asked["configuration"] = idp.asked.get("configuration", 0) + 1
        endpoint = idp.server.get_endpoint("provider_config")
        said = dict(endpoint.process_request()["response_args"])
        said["authorization_response_iss_parameter_supported"] = True
        return web.json_response(said)

    async def keys(request: web.Request) -> web.Response:
        idp.asked["keys"] = idp.asked.get("keys", 0) + 1
        return web.Response(
            text=idp.server.keyjar.export_jwks_as_json(), content_type="application/json"
        )

    async def authorize(request: web.Request) -> web.Response:
        method = idp.server.context.authn_broker.db["everybody"]["method"]
        method.user = idp.user
        done, parsed = await _endpoint(idp, "authorization", dict(request.query), {})
        info = idp.server.get_endpoint("authorization").do_response(request=parsed, **done)
        url = info["response"]
        if idp.silent:
            url = "&".join(part for part in url.split("&") if not part.startswith("iss="))
        return web.Response(status=302, headers={"Location": url})

    async def token(request: web.Request) -> web.Response:
        given = {name: value[0] for name, value in parse_qs(await request.text()).items()}
        headers = {"authorization": request.headers.get("Authorization", "")}
        http_info = {"headers": headers, "method": "POST", "url": str(request.url)}
        given.setdefault("client_id", CLIENT)
        done, _ = await _endpoint(idp, "token", given, http_info)
        said = dict(done["response_args"])
        if "error" in said:
            return web.json_response(said, status=400)
        if idp.spoil is not None:
            said["id_token"] = _spoilt(idp, said["id_token"])
        return web.json_response(said)

    app.router.add_get("/.well-known/openid-configuration", configuration)
    app.router.add_get("/jwks", keys)
    app.router.add_get("/authorize", authorize)
    app.router.add_post("/token", token)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    issuer = f"http://127.0.0.1:{port}"
    idp = Idp(_configured(issuer, folder), issuer)
    try:
        yield idp
    finally:
        await runner.cleanup()


def _spoilt(idp: Idp, token: str) -> str:
    assert idp.spoil is not None
    head = orjson.loads(urlsafe_b64decode(token.split(".", maxsplit=1)[0] + "=="))
    claims = jwt.decode(token, idp.private_key(head["kid"]), algorithms=[head["alg"]]).claims
    changed = idp.spoil(claims)
    return changed if isinstance(changed, str) else idp.signed(head, changed)
