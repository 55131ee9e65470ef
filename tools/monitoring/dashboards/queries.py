"""The few forms of expressions that the panels use; `$service` is what the viewer chose."""

from __future__ import annotations

SERVICES = 'service=~"$service"'
_RATE = "$__rate_interval"


def rate(metric: str, by: str = "", selected: str = "") -> str:
    """How often a second, summed over processes."""
    chosen = f"{{{selected}}}" if selected else ""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{chosen}[{_RATE}]))"


def quantile(share: float, metric: str, by: str = "", selected: str = "") -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, {rate(metric + '_bucket', labels, selected)})"


def quantiles(metric: str, by: str = "", selected: str = "") -> dict[str, str]:
    """The median and the slow ones, a line each, or one each of `by`."""
    name = f" {{{{{by}}}}}" if by else ""
    return {
        f"p{round(share * 100)}{name}": quantile(share, metric, by, selected)
        for share in (0.5, 0.95, 0.99)
    }


def mean(metric: str, by: str, selected: str = "") -> str:
    """Of a histogram."""
    return f"{rate(metric + '_sum', by, selected)} / {rate(metric + '_count', by, selected)}"


def highest(metric: str, by: str, selected: str = SERVICES) -> str:
    """What any of the processes says: they look at the same table."""
    return f"max by ({by}) ({metric}{{{selected}}})"


def total(metric: str, by: str, selected: str = SERVICES) -> str:
    """A gauge of which each process has its share."""
    chosen = f"{{{selected}}}" if selected else ""
    return f"sum by ({by}) ({metric}{chosen})"
