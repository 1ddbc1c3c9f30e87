"""A farm for other projects' trainers: one module per project, which imports that project, over `envfarm.client` alone.

Importing this package imports none of them.
"""
