"""Under which licence a post of a Stack Exchange site stands. Pure; called by both Stack Exchange sources.

The site's own word (`ContentLicense`) counts first, the date second. A post without either was published under 2.5 or later, and each
version allows what is made of it to be passed on under a later one, so `CC-BY-SA-2.5+` is true of it.
"""

import re
from datetime import UTC, datetime

CHANGES = ((datetime(2018, 5, 2, tzinfo=UTC), "CC-BY-SA-4.0"), (datetime(2011, 4, 8, tzinfo=UTC), "CC-BY-SA-3.0"))
"""From when on which version holds, the newest first. https://stackoverflow.com/help/licensing"""
FIRST = "CC-BY-SA-2.5"
UNDATED = "CC-BY-SA-2.5+"


def licence(stated: str, created_at: datetime | None) -> str:
    """An SPDX expression.

    Args:
        stated: what the source says, such as `CC BY-SA 3.0`; may be empty.
        created_at: of the post.
    """
    if version := re.fullmatch(r"\s*CC[ -]BY-SA[ -](2\.5|3\.0|4\.0)\s*", stated, re.IGNORECASE):
        return f"CC-BY-SA-{version[1]}"
    if created_at is None:
        return UNDATED
    return next((name for since, name in CHANGES if created_at >= since), FIRST)
