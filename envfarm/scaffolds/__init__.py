"""Scaffolds: other projects' agent programs, shipped or added by an operator. Each is a TOML file; no code here depends on one by name."""
