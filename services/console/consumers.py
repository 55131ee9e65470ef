"""What the console does with events."""

from __future__ import annotations

from services.console.audit import chaining, roots
from services.console.views import activity, devices, verdicts
from shared.bus import Handlers
from shared.events.audit import AuditRecorded, AuditRootSigned
from shared.events.commands import CommandCreated, CommandFinished, DeviceSeen
from shared.events.compliance import PolicyChanged, VerdictChanged
from shared.events.device_state import DeviceState
from shared.events.devices import CertificateIssued, CertificateRevoked
from shared.events.groups import DeviceGroups, GroupState
from shared.events.inventory import FactsChanged
from shared.events.pushes import PushCertificateChanged

HANDLERS: Handlers = {
    AuditRecorded: chaining.record,
    AuditRootSigned: roots.heard,
    DeviceState: devices.replace,
    DeviceSeen: devices.seen,
    FactsChanged: devices.report,
    DeviceGroups: devices.put_into_groups,
    GroupState: devices.replace_groups,
    PushCertificateChanged: devices.replace_push_certificates,
    CertificateIssued: activity.certify,
    CertificateRevoked: activity.revoke,
    VerdictChanged: verdicts.judge,
    PolicyChanged: verdicts.learn,
    CommandCreated: activity.requests,
    CommandFinished: activity.outcomes,
    **activity.NOTED,
}
