"""Records for the tests of candidates."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from envfarm.core.source import SourceKind, SourceRecord

PATCH = """\
diff --git a/CHANGES.md b/CHANGES.md
index 1111111..2222222 100644
--- a/CHANGES.md
+++ b/CHANGES.md
@@ -1 +1,2 @@
 # Changes
+- Fix the frobnicator (#12)
diff --git a/src/frob.py b/src/frob.py
index 1111111..2222222 100644
--- a/src/frob.py
+++ b/src/frob.py
@@ -1,2 +1,3 @@
 def frobnicate(value):
-    return value
+    normalised = str(value).strip().casefold()
+    return normalised or None
diff --git a/tests/test_frob.py b/tests/test_frob.py
index 1111111..2222222 100644
--- a/tests/test_frob.py
+++ b/tests/test_frob.py
@@ -1 +1,2 @@
 from frob import frobnicate
+assert frobnicate(" ") is None
"""


@pytest.fixture
def record() -> Callable[..., SourceRecord]:
    """A record that becomes a candidate, with the given changes."""

    def make(**changed: Any) -> SourceRecord:
        fields: dict[str, Any] = {
            "kind": SourceKind.GIT,
            "url": "https://forge.example/acme/frob/issues/12",
            "repository": "https://forge.example/acme/frob",
            "name": "acme/frob",
            "title": "frobnicate keeps white space",
            "body": "`frobnicate(' ')` should give `None`.",
            "body_is_issue": True,
            "licence": "MIT",
            "created_at": datetime(2024, 5, 1, tzinfo=UTC),
            "base_commit": "a1" * 20,
            "fix_commit": "b2" * 20,
            "patch": PATCH,
        }
        return SourceRecord(**(fields | changed))

    return make
