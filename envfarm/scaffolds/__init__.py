"""Agents that are other people's programs: what ships, and what an operator adds. Each is a TOML file; nothing here knows one by name."""
