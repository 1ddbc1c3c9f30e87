"""Terminal tasks made from questions: instruction, cases, and their own gates."""
