"""The walls of a local box, as switches. Only tests take one down: to show that a probe which fails in a box succeeds without the wall."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Walls:
    """All up by default. Nothing that ships hands over anything else; a box with a wall down is not a sandbox."""

    hidden_files: bool = True
    """The host's files are not there, but for /usr and what is needed to run programs. Down: a box without areas and layers of its own."""
    read_only_system: bool = True
    """What is there of the host cannot be written."""
    own_processes: bool = True
    """A pid namespace whose first process is boxd, and a /proc of it, without a way to change the kernel's settings."""
    own_network: bool = True
    """A network namespace without a way out."""
    own_ipc: bool = True
    """System V shared memory, semaphores and message queues."""
    own_names: bool = True
    """Host name."""
    own_devices: bool = True
    """A /dev with null, zero, full, random, urandom, tty and pseudo-terminals of its own."""
    seccomp: bool = True
    """The filter of system calls."""
    no_privilege: bool = True
    """No capability, in no user namespace, and a uid of the box's own on the host where the farm is root."""
    limits: bool = True
    """Memory, processes and disk."""


ALL_UP = Walls()
