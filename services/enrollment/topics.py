"""The push topics that push_notifier announces; new profiles name the current one."""

from __future__ import annotations

from collections.abc import Sequence

from services.enrollment.store import push_certificates
from shared.db.pool import Connection
from shared.events.pushes import PushCertificateChanged


async def apply(tx: Connection, news: Sequence[PushCertificateChanged]) -> None:
    """Replace what is known of each topic."""
    await push_certificates.replace(tx, news)
