"""The HTTP API for trainers: one file per resource. It parses, asks a service of `Services`, and answers; it decides nothing."""
