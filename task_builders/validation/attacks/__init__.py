"""The attack library: exploits that a task must not reward, and the gate that tries them. Python so far.

Each attack is played by a scripted agent in an agent's box. It must score 0 with every defence on; with the defences off that it is
aimed at it should score 1, or it showed nothing.
"""
