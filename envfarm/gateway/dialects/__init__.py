"""The dialects that agents speak: JSON in, JSON or server-sent events out. Pure."""
