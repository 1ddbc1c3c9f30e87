"""The attack library: exploits that a task must not reward, and the gate that tries them. Python so far.

A scripted agent plays each attack in an agent's box. It must score 0 with all defences on. With the defences off that should stop it, it
should score 1; otherwise it proved nothing.
"""
