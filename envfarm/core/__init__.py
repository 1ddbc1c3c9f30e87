"""The nouns and contracts of the farm.

Every other room imports from here; nothing here imports another room, does I/O, reads a clock, draws a random number, reads the
environment or logs. `plan`, `change` and `outcome` use the standard library alone, because the verifier archive carries them.
"""
