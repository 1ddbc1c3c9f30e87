"""Reduces shell text to words and signs: what the shell would first expand or set aside is replaced by placeholders. Pure.

Substitutions (also in backquotes and in double quotes) are returned as texts of their own; variables, arithmetic and arrays become words
that name no file; bodies of here-documents are dropped. Must not judge what a command does.
"""

import re

EXPANDED = "$_"
"""Stands for what the shell expands; it names no file."""
SUBSTITUTED = re.compile(r"\$_(\d{1,5})_")
"""Stands for a substitution, by its number."""
HERE = re.compile(r"(?<!<)<<-?[ \t]*(?:\\|(?P<quote>['\"]))?(?P<word>[A-Za-z_]\w*)(?(quote)(?P=quote))")
FUNCTION = re.compile(
    r"(?:^|(?<=[\n;&|{]))[ \t]*(?:function[ \t]+([\w-]+)(?:[ \t]*\([ \t]*\))?|([\w-]+)[ \t]*\([ \t]*\))[ \t]*\n?[ \t]*(?=\{)"
)
"""The head of a function's definition."""
ESCAPED_SIGN = re.compile(r"\\[|&;()<>]")
PLAIN = re.compile(r"[^\\'\"`$(){}]+")
"""Characters that mean nothing here."""
ARRAY = re.compile(r"(?:^|[\s;])[A-Za-z_]\w*\+?=$")
"""What stands before the parenthesis of an array."""
CLOSED_BY = {"(": ")", "{": "}"}


class UnfinishedError(ValueError):
    """The shell would wait for more: a quote, a substitution or a here-document does not end."""


def functions(text: str) -> tuple[frozenset[str], str]:
    """The names of the functions that a text defines, and the text without the heads of these definitions."""
    names = frozenset(one or other for one, other in FUNCTION.findall(text))
    return names, FUNCTION.sub("", text)


def without_here_documents(text: str) -> str:
    """The text without here-documents, whose data are no commands. Raises `UnfinishedError` if one does not end."""
    kept, at = "", 0
    while (match := HERE.search(text, at)) is not None:
        line_end = text.find("\n", match.end())
        end = re.compile(rf"^[ \t]*{match['word']}[ \t]*$", re.MULTILINE).search(text, line_end + 1) if line_end >= 0 else None
        if end is None:
            raise UnfinishedError
        kept += text[at : match.start()]
        text, at = text[: line_end + 1] + text[end.end() :].removeprefix("\n"), match.end()
    return kept + text[at:]


def expanded(text: str) -> tuple[str, list[str]]:
    """The text with placeholders, and the texts of its substitutions. Raises `UnfinishedError`."""
    scan = _Scan(text)
    return scan.until(""), scan.bodies


class _Scan:
    """One pass over the characters."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.bodies: list[str] = []

    def until(self, end: str) -> str:
        """The text up to a closing sign, which is passed over; up to the text's end if there is none to look for."""
        out: list[str] = []
        quoted = False
        while self._at < len(self._text):
            if run := PLAIN.match(self._text, self._at):
                out.append(run[0])
                self._at = run.end()
                continue
            here = self._text[self._at]
            if here == end and not quoted:
                self._at += 1
                return "".join(out)
            if here == '"':
                quoted = not quoted
            out.append(self._next(out, quoted=quoted))
        if end or quoted:
            raise UnfinishedError
        return "".join(out)

    def _next(self, out: list[str], *, quoted: bool) -> str:
        """What stands for the next piece."""
        text, at = self._text, self._at
        if text[at] == "\\":
            self._at += 2
            return "_" if not quoted and ESCAPED_SIGN.match(text, at) else text[at : at + 2]
        if text[at] == "'" and not quoted:
            return self._through("'")
        if text[at] == "`":
            return self._substituted(re.sub(r"\\([`$\\])", r"\1", self._through("`")[1:-1]))
        if text.startswith(("$(", "${"), at):
            return EXPANDED if self._skips_arithmetic("$((") else self._expansion()
        if text[at] == "(" and not quoted and (self._skips_arithmetic("((") or ARRAY.search("".join(out[-1:]))):
            return ":" if self._at > at else self._array()
        self._at += 1
        return text[at]

    def _array(self) -> str:
        self._at += 1
        return EXPANDED + "".join(match[0] for match in SUBSTITUTED.finditer(self.until(")")))

    def _expansion(self) -> str:
        opening = self._text[self._at + 1]
        self._at += 2
        begin, known = self._at, len(self.bodies)
        inner = self.until(CLOSED_BY[opening])
        if opening == "{":
            return EXPANDED + "".join(match[0] for match in SUBSTITUTED.finditer(inner))
        del self.bodies[known:]  # the body is parsed as a text of its own
        return self._substituted(self._text[begin : self._at - 1])

    def _substituted(self, body: str) -> str:
        self.bodies.append(body)
        return f"{EXPANDED}{len(self.bodies) - 1}_"

    def _through(self, sign: str) -> str:
        """The text from a sign through the next one that no backslash precedes; in single quotes a backslash means nothing."""
        found = re.compile(r"'[^']*'" if sign == "'" else r"`(?:\\.|[^`\\])*`", re.DOTALL).match(self._text, self._at)
        if found is None:
            raise UnfinishedError
        self._at = found.end()
        return found[0]

    def _skips_arithmetic(self, begin: str) -> bool:
        """Pass over arithmetic, if it begins here and ends on its line."""
        close = self._text.find("))", self._at + len(begin)) if self._text.startswith(begin, self._at) else -1
        if close < 0 or "\n" in self._text[self._at : close]:
            return False
        self._at = close + 2
        return True
