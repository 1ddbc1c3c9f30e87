"""Turns a farm's observations into metrics, traces and log lines. Other packages use `core.observing` only; wiring connects the two."""
