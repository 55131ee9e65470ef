"""Requests that two readers could understand in two ways, and requests that only cost."""

from __future__ import annotations

import asyncio

import pytest

from tests.enrollment.conftest import House

HEAD = b"POST /pki/ocsp HTTP/1.1\r\nHost: mdm.example.org\r\n"
# Whoever ends the first request elsewhere takes this for a second one.
SMUGGLED = b"GET /pki/crl/smuggled.crl HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

AMBIGUOUS = {
    "length and chunks": b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "a list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "a signed length": b"Content-Length: +5\r\n\r\nhello",
    "a negative length": b"Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal digits": b"Content-Length: 0x5\r\n\r\nhello",
    "a length with an underscore": b"Content-Length: 0_5\r\n\r\nhello",
    "a length of 24 digits": b"Content-Length: " + b"9" * 24 + b"\r\n\r\nhello",
    "chunks, then as they are": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
    b"0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a control character": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare carriage return": b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "NUL": b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk size above 64 bits": CHUNKED + b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "chunks parted by line feeds": CHUNKED + b"5\nhello\n0\n\n",
    "a chunk that is longer than it says": CHUNKED + b"5\r\nhelloXX0\r\n\r\n",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_what_has_two_meanings_is_refused_and_hides_nothing(house: House, case: str) -> None:
    """RFC 9112 §6.3, §11.2: one 400, the connection ends, what follows is never read."""
    async with asyncio.timeout(20):
        answer = await house.raw(HEAD + AMBIGUOUS[case] + SMUGGLED)
    assert answer.startswith(b"HTTP/1.0 400")
    assert answer.count(b"HTTP/1.") == 1
    assert b"authority_unknown" not in answer
    assert len(answer) < 500


@pytest.mark.parametrize(
    "start",
    [
        b"GET /pki/ocsp HTTP/9.9\r\nHost: a\r\n\r\n",
        b"POST /pki/ocsp HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
        b"POST /pki/ocsp HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
        b"GET /pki/crl/\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["version", "line feeds", "two hosts", "no UTF-8", "TLS", "HTTP/2"],
)
async def test_what_is_no_request_gets_one_short_400(house: House, start: bytes) -> None:
    async with asyncio.timeout(20):
        answer = await house.raw(start + b"\r\n\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.0 400")
    assert answer.count(b"HTTP/1.") == 1
    assert len(answer) < 500


async def test_a_thousand_header_fields_are_too_many(house: House) -> None:
    fields = b"".join(b"X-%d: a\r\n" % number for number in range(1000))
    async with asyncio.timeout(20):
        answer = await house.raw(HEAD + fields + b"Content-Length: 0\r\n\r\n" + SMUGGLED)
    assert answer.startswith(b"HTTP/1.0 400")
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("flood", ["fields", "one long line", "trailers"])
async def test_a_flood_of_header_octets_is_cut_off(house: House, flood: str) -> None:
    """Before a request is one, and after it: the peer is gone long before 64 MiB have arrived."""
    piece = b"X: " + b"a" * 8000 + b"\r\n"
    begin = {
        "fields": HEAD,
        "one long line": b"GET /" + b"a" * 20_000,
        "trailers": HEAD + CHUNKED + b"0\r\n",
    }[flood]
    address = house.service.url("devices").removeprefix("http://")
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = 0
    try:
        writer.write(begin)
        while sent < 64 * 1024 * 1024:
            writer.write(piece * 16)
            await writer.drain()
            sent += 16 * len(piece)
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize("expect", [b"100-continue", b"the unexpected"])
async def test_expectations_make_no_second_answer(house: House, expect: bytes) -> None:
    head = HEAD + b"Expect: " + expect + b"\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    async with asyncio.timeout(20):
        answer = await house.raw(head + b"hello")
    final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert final.count(b"HTTP/1.") == 1
    assert final.startswith((b"HTTP/1.1 200", b"HTTP/1.1 417"))


@pytest.mark.parametrize(
    "path",
    [
        "/enroll/apple/%00",
        "/enroll/apple/%ff%fe",
        "/enroll/apple/%ed%a0%80",
        "/enroll/apple/%zz",
        "/enroll/apple/" + "a" * 6000,
        "/scep/%00?operation=PKIOperation&message=MAA=",
        "/scep/%ed%a0%80?operation=PKIOperation&message=MAA=",
        "/pki/crl/%00.crl",
        "/pki/crl/..%2f..%2fetc%2fpasswd.crl",
        "/pki/ca/%27%3b--.cer",
        "/pki/ocsp/%00",
        "/pki/ocsp/" + "A" * 6000,
        "/pki/../api/v1/enrollment/devices",
        "//api/v1/enrollment/devices",
        "/internal/v1/commands/fence",
        "/metrics",
    ],
)
async def test_odd_addresses_are_answered_shortly(house: House, path: str) -> None:
    """No fault of ours, no other listener's route, and no more than a word."""
    request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with asyncio.timeout(20):
        answer = await house.raw(request.encode("latin-1"))
    status = int(answer.split(b" ", 2)[1])
    assert status in {200, 400, 403, 404}
    assert len(answer) < 500
    if status == 200:
        assert b"application/ocsp-response" in answer
