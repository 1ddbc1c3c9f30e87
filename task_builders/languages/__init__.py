"""One profile per language: what a project of it needs, how its tests run, what may influence them."""
