"""A boxd that runs no programs: one process answers for thousands of boxes, with boxd's complete wire protocol.

For measuring a farm at sizes for which no machine has real boxes, and for tests of code that uses boxes. The address of a request tells
which box it is for. A ledger records the requests, so that a farm's guarantees can be verified from outside it. It passes the protocol part
of the conformance suite; see docs/scale.md.
"""
