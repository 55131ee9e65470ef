"""Every command to a device, from request to proven outcome.

Commands are asked for by people (API) and services (events), classed by what they can do, expanded
to targets, handed to devices at the connect endpoint and ended exactly once a target. The guard
that stops mass destruction lives here: limits, holds, freezes, cancels, and the fences that
`enrollment` raises when a device's identity changes.
"""

from __future__ import annotations
