"""Adapters for other projects' trainers: one module per project, which imports that project and uses `envfarm.client` only.

Importing this package imports none of these projects.
"""
