"""What a storm was like, for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.storm.faults import KINDS, Fault

_SHOWN = 25


@dataclass
class Report:
    """Filled while the storm blows."""

    seed: int
    plant: str = ""
    struck: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Faults that met a server which was away."""
    spells: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    last: list[Fault] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return self.struck.total()

    def text(self) -> str:
        lines = [f"storm of faults, seed {self.seed}"]
        if self.plant:
            lines.append(f"planted: {self.plant}")
        lines.append("")
        lines.append(f"{'fault':18} {'times':>5} {'missed':>6}  what it is")
        for name, kind in KINDS.items():
            if self.struck[name] or self.missed[name]:
                row = f"{name:18} {self.struck[name]:>5} {self.missed[name]:>6}  {kind.about}"
                lines.append(row)
        lines.append(f"{'together':18} {self.faults:>5} {self.missed.total():>6}")
        lines += _table("what happened", self.counts)
        lines += _table(f"what was checked, in {self.spells} calms", self.checked)
        lines.append("")
        lines += self._verdict()
        return "\n".join(lines)

    def _verdict(self) -> list[str]:
        if not self.violations:
            return ["no violation"]
        lines = [f"{len(self.violations)} violations:"]
        lines += [f"  - {one}" for one in self.violations[:_SHOWN]]
        if len(self.violations) > _SHOWN:
            lines.append(f"  … and {len(self.violations) - _SHOWN} more")
        lines.append("the last faults before:")
        lines += [f"  {fault.number}. {fault}" for fault in self.last[-12:]]
        lines.append(f"again with: make chaos SEED={self.seed}" + self._planted())
        return lines

    def _planted(self) -> str:
        return f" PLANT={self.plant}" if self.plant else ""


def _table(title: str, counts: Counter[str]) -> list[str]:
    width = max((len(name) for name in counts), default=0)
    return ["", title, *(f"  {name:{width}} {count:>8}" for name, count in sorted(counts.items()))]
