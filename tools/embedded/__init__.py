"""A real PostgreSQL and a real Apache Kafka on this machine, without root and without Docker.

`stack.Embedded` is the door: it finds or fetches the servers, starts them on loopback with
generated passwords, sets up databases, roles, topics and rights, and stops them again. Everything
lives under `.muster/` (`home.Home`).
"""

from __future__ import annotations
