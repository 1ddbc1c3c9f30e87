"""Pure scheduling decisions: what may start now, and for whom. No clock, no I/O, no state."""
