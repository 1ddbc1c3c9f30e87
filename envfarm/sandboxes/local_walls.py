"""The defences of a local box, as switches. Only tests switch one off, to show that an attack which fails in a box succeeds without it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Walls:
    """All on by default, and never off in anything that ships: a box with one of them off is not a sandbox."""

    hidden_files: bool = True
    """The host's files are hidden, except /usr and what running programs needs. Off: a box without its own areas and layers."""
    read_only_system: bool = True
    """What is visible of the host is read-only."""
    own_processes: bool = True
    """A pid namespace whose first process is boxd, with its own /proc, in which kernel settings cannot be changed."""
    own_network: bool = True
    """A network namespace without a connection to the outside."""
    own_ipc: bool = True
    """Own System V shared memory, semaphores and message queues."""
    own_names: bool = True
    """Own host name."""
    own_devices: bool = True
    """An own /dev with null, zero, full, random, urandom, tty and pseudo-terminals."""
    seccomp: bool = True
    """The system call filter."""
    no_privilege: bool = True
    """No capabilities, in any user namespace, and, if the farm is root, a host uid of the box's own."""
    limits: bool = True
    """Limits of memory, processes and disk."""


ALL_UP = Walls()
