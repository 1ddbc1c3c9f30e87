"""Records to candidates: linking, splitting, licences, duplicates. Pure."""
