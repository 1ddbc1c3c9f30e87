"""Turns issues with their fixing change into verified tasks. Imports envfarm; is never imported by it."""
