"""Readers of test reports, one per kind: bytes in, a status per stable test id out."""
