"""Who is managed: enrollment credentials, check-ins, device identity, ownership and assigned user,
certificates and their revocation, escrowed secrets. It alone writes `muster.device.v1` and
`muster.device-state.v1`, from which every other service builds its picture of the devices.
"""

from __future__ import annotations
