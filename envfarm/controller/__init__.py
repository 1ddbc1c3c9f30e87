"""Many episodes at once: who runs which, how often, and that each comes to exactly one outcome."""
