"""From records to candidates: linking, splitting, licences, duplicates. Pure."""
