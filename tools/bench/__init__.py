"""Measures what Muster costs: requests a second, latency, and CPU as the system counts it."""
