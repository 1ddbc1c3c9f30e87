"""A boxd that runs no programs: it answers for thousands of boxes from one process, by the whole of boxd's wire protocol.

For measuring a farm at sizes that no one machine has real boxes for, and for tests of what drives boxes. Boxes are told apart by the
address at which they are asked. It keeps a ledger of what it was asked, so that what a farm promises can be read from outside the farm.
It passes the protocol's part of the conformance suite; see docs/scale.md.
"""
