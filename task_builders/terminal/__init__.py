"""Terminal tasks from questions: instruction, cases, and the gates that are theirs."""
