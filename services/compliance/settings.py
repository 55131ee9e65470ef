"""Settings of compliance: MUSTER_COMPLIANCE_…"""

from __future__ import annotations

from pydantic import Field

from shared.runtime.settings import Settings


class ComplianceSettings(Settings):
    seed_baseline: bool = True
    """Create the policy "Baseline" on the first start; who deletes it does not get it back."""
    rollout_batch: int = Field(default=200, ge=1, le=1000)
    """Devices judged in one transaction when a policy changes."""
    due_batch: int = Field(default=500, ge=1, le=1000)
    """Verdicts judged in one transaction when their time has come."""
