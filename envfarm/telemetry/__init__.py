"""What a farm tells of itself, made into metrics, traces and log lines. Rooms know `core.observing` alone; wiring joins the two."""
