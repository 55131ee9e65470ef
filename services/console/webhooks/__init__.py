"""Telling others of events over HTTP: rows until they arrive (decision 52)."""
