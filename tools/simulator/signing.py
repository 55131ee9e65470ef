"""How a device signs its requests, honestly or in the ways that a server must notice.

await device.connect(signing=signing.swapped(b"another body"))
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from tools.simulator.wire import cms


@dataclass(frozen=True, slots=True)
class Signing:
    """The knobs of one Mdm-Signature; the defaults sign the body with the device's identity."""

    style: cms.Style = cms.DEVICE_STYLE
    identities: tuple[cms.Identity, ...] | None = None
    """Who signs instead of the device: another, two at once, a key without its certificate."""
    body: bytes | None = None
    """What is signed instead of the body that is sent."""
    header: str | None = None
    """Sent as it is instead of a signature."""
    omit: bool = False
    embed_at_most: int | None = None
    """Bodies above this many bytes are not embedded after all: headers have limits."""

    def headers(self, body: bytes, identity: cms.Identity) -> dict[str, str]:
        if self.omit:
            return {}
        if self.header is not None:
            return {"Mdm-Signature": self.header}
        content = body if self.body is None else self.body
        style = self.style
        if self.embed_at_most is not None and len(content) > self.embed_at_most:
            style = replace(style, embed=False)
        message = cms.sign(content, self.identities or (identity,), style)
        return {"Mdm-Signature": base64.b64encode(message).decode()}


HONEST = Signing()
UNSIGNED = Signing(omit=True)
SHA1 = Signing(cms.Style(digest="sha1"))
SHA1_WITHOUT_NULL = Signing(
    cms.Style(digest="sha1", combined_algorithm=True, null_parameters=False)
)
EMBEDDED = Signing(cms.Style(embed=True))
INDEFINITE = Signing(cms.Style(indefinite=True))
INDEFINITE_EMBEDDED = Signing(cms.Style(indefinite=True, embed=True))


def swapped(body: bytes) -> Signing:
    """A good signature over another body than the one sent."""
    return Signing(body=body)


def swapped_embedded(body: bytes) -> Signing:
    """A good signature over another body, which the message also carries."""
    return Signing(cms.Style(embed=True), body=body)


def by(*identities: cms.Identity) -> Signing:
    """Signed by others: one other device, or several signers in one message."""
    return Signing(identities=identities)
