"""Tasks that a language model writes, from questions that the rules reject. Optional: nothing else needs it. What it proposes is untrusted,
and passes the same gates as every task.
"""
