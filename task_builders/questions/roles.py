"""What each block of a question is: input, desired output, actual output, attempt, error, session. Pure; the rules are data.

A block's own text is tried first (an error looks like one anywhere), then what the words before it call it, then its position. Cues are
common English phrases of askers; those of the nearest sentence win, and among these the strongest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from task_builders.questions import programs
from task_builders.questions.blocks import Block, Piece, Prose


class Role(StrEnum):
    """What a block is to its question."""

    INPUT = "input"
    OUTPUT = "desired output"
    ACTUAL = "what came out instead"
    ATTEMPT = "attempt"
    ERROR = "error"
    SESSION = "session"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RoledBlock:
    """A block with its role."""

    block: Block
    role: Role
    lead: str
    """The words before it, which may name its file."""
    why: str
    """The rule that decided."""


def _cues(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_THING = r"(?:ou?t?puts?|results?|file|format|json|csv|data|structure|lines?)"
_PRINTS = r"(?:gives|prints|returns|outputs|produces|results|yields|shows|displays)"
_HAD = r"\b(?:have|has|given|got|consider|suppose|say|assume)\b[^.?!]{0,100}"
_KIND = (
    r"(?:files?|json|csv|xml|text|data|data[ -]?frames?|list|lines?|strings?|tables?|log|object|array|dict(?:ionar(?:y|ies))?|columns?"
    r"|output|format|structure)"
)
_SHOWN = r"(?:files?|json|csv|xml|text|data|data[ -]?frames?|strings?|contents?|tables?|logs?)"
CUES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (Role.INPUT, _cues(rf"\b(?:get|getting|receive|receiving)\b[^.?!]{{0,40}}\b(?:reply|response|{_KIND})\b[^.?!]{{0,20}}\bfrom\b")),
    (Role.ACTUAL, _cues(r"\bnot (?:as |the |what (?:i|we) )?(?:expected|desired|want|correct|right|intended)")),
    (
        Role.OUTPUT,
        _cues(
            rf"\b(?:expected|desired|required|wanted|intended|target|final|ideal)\s+(?:\w+\s+){{0,2}}{_THING}",
            r"\b(?:out?put|result)\s+(?:file\s+)?(?:should|must|needs? to|would|will|to be|like)",
            r"\b(?:out?put|result)\s+(?:file\s+)?(?:i(?:'m| am) (?:looking|hoping)|i (?:want|need|expect|would))",
            r"\bshould\s+(?:be|become|look|return|produce|print|give|get|output|result|have|show|display)\b",
            r"\b(?:generate|produce|get|create|output|print|return|like) (?:this|the following|an?|something like)(?: \w+){0,2} "
            r"(?:ou?t?put|result)s?\b",
            r"\bso (?:that )?i (?:can |would |will )?(?:get|have|see)\b",
            r"\bwhat i(?:'m| am|'d| would)? (?:want|need|like|expect|looking|trying)",
            rf"\b(?:create|make|generate|produce|write)\s+(?:an?\s+)?new\s+{_KIND}\b",
            r"^(?:in)?to(?: be| this| get| something like)?(?: this)?\s*:?$",
        ),
    ),
    (
        Role.ACTUAL,
        _cues(
            r"(?<!do )(?<!can )(?<!could )(?<!so )(?<!should )\bi(?:'m| am)? (?:get|got|getting|receive|obtain|end up with|see)\b",
            r"\b(?:it (?:gives|prints|returns|outputs|produces|shows)|gives me)\b",
            r"\b(?:current|actual|wrong|incorrect|my) (?:output|result)",
            rf"^(?:which |this |that |(?:the |my )?(?:command|code|script) )?(?:currently |only )?{_PRINTS}\b",
            r"\b(?:but|however)\b[^.]{0,60}\b(?:get|gives?|got|prints?|returns?|outputs?|shows?)\b",
        ),
    ),
    (
        Role.ATTEMPT,
        _cues(
            r"\bi(?:'ve| have)? (?:tried|try|used|wrote|written|attempted|came up)\b[^.]{0,60}$",
            r"\bi(?:'m| am) (?:using|running|doing|attempting)\b[^.]{0,60}$",
            r"\b(?:my|this|the following|current|here(?:'s| is) (?:my|the|what)) "
            r"(?:code|script|command|attempt|program|query|approach|function|solution)\b",
        ),
    ),
    (
        Role.INPUT,
        _cues(
            r"\b(?:input|source|original|sample|raw)\s*(?:data|file|json|text|string|csv|xml|table|lines?)?\b",
            rf"{_HAD}\b(?:{_KIND}|following|this|like)\b",
            r"\b(?:is|are) (?:given|listed|defined|stored) (?:as|by|in|below|here)\b",
            r"\b(?:file|json|csv|log|data|text|table|contents?|lines?)\b[^.?!]{0,60}\b"
            r"(?:contains?|containing|looks?|is|are|has|have|consists?|as follows|with|like|formatted|below|following)\b",
            r"^`?[\w./-]+\.(?:txt|csv|tsv|json|log|xml|ya?ml|dat|html|ini|conf|in)`?\s*:?$",
            r"^(?:the )?(?:first|second|other|\d\w*)?\s*(?:file|input)\s*\w{0,2}\s*:?$",
            rf"^(?:(?:the|my|here(?:'s| is)(?: the| my)?)\s+)?(?:\w+\s+)?{_SHOWN}(?:\s+{_SHOWN})?\s*:$",
            r"^`?(?:df|data|frame|dataframe|table|list|array)_?\w{0,2}`?\s*:?$",
        ),
    ),
    (
        Role.OUTPUT,
        _cues(
            r"\b(?:want|need|like|wish|hope|hoping|expect|expecting|trying|looking|try|aim|aiming|goal|how)\b[^.?!]{0,120}?\b(?:to|for|is)\b",
            r"\bhow (?:can|do|would|could|to)\b",
            r"\bis there (?:an?|any|some)\b[^.?!]{0,40}\b(?:way|method|command|tool|function)\b",
            r"\b(?:i|we)(?:'d| would)? (?:want|need|like|expect|prefer)\b",
            r"\b(?:convert|transform|turn|change|reformat|parse|translate|reduce|get|replace)\w*\b[^.?!]{0,80}\b(?:in)?to\b",
            r"\b(?:would|will) (?:be|become|look|return|produce|give|yield|result|output|print)\b",
            r"^(?:the )?(?:sample |example )?(?:out?put|result)s?\b[^.?!]{0,30}$",
            r"\bso (?:that )?(?:the |my )?(?:result|output|i get|it)",
        ),
    ),
    (Role.INPUT, _cues(r"\b(?:for example|e\.g\.?|for instance|such as|as follows|looks? like|from|example)\b[^.?!]{0,30}$")),
)
"""Strongest first: "what I want" asks, whatever else its sentence says; "I want to read a file that contains" introduces the file."""
LOOKS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (
        Role.ERROR,
        re.compile(
            r"^(?:Traceback \(most recent|fatal: |error: |ERROR\b|\w*Error: |Exception in|parse error|syntax error)"
            r"|^(?:sh: |-?bash: |jq: error|awk: |sed: -e|sed: \d)"
            r"|: command not found$|: No such file or directory$|: unterminated |: unexpected ",
            re.MULTILINE,
        ),
    ),
)
FARTHEST = 400
"""Number of characters before a block that may be about it."""
EXAMPLE = re.compile(r"^\s*[\[{].*[\]}]\s*$|(?:\S+[:;,|]){3}|\S+ \S+ \S")
"""Inline code that is data (a list, an object, words separated by signs or spaces), not the name of a file or function."""
INTRODUCES = (":", "->", "=>")
"""Signs before inline data."""
SHOWING = frozenset({"cat", "more", "less", "head", "tail"})
"""Commands of a session that show a file."""


def asks(sentence: str) -> bool:
    """Whether a sentence asks, or says what is wanted."""
    return "?" in sentence or any(cue.search(sentence) for role, cue in CUES if role is Role.OUTPUT)


def is_error(text: str) -> bool:
    """Whether a text looks like a program's message."""
    return any(look.search(text) for role, look in LOOKS if role is Role.ERROR)


def with_roles(question: Sequence[Piece]) -> tuple[RoledBlock, ...]:
    """The blocks of a question with their roles, in order. A session that prints a file or the wanted output counts as that."""
    found: list[RoledBlock] = []
    lead = ""
    for piece in question:
        if isinstance(piece, Prose):
            lead = f"{lead}\n{piece.text}" if lead else piece.text
            found += _inline(piece, lead)
            continue
        role, why = _role(piece, lead[-FARTHEST:])
        found += _of_session(piece, lead) if role is Role.SESSION else [RoledBlock(piece, role, lead, why)]
        lead = ""
    return _by_place(found)


def _inline(piece: Prose, lead: str) -> list[RoledBlock]:
    """Data inside a paragraph, right after a colon or as its only content: ``Input: `[5, 6]` ``."""
    found: list[RoledBlock] = []
    for code in piece.code:
        before, _, _ = piece.text.partition(f"`{code}`")
        if not EXAMPLE.search(code) or "\n" in code or (before.strip() and not before.rstrip().endswith(INTRODUCES)):
            continue
        block = Block(f"{code.strip()}\n")
        role, why = _role(block, (lead.rpartition("\n")[0] if not before.strip() else before)[-FARTHEST:])
        if role in (Role.INPUT, Role.OUTPUT):
            found.append(RoledBlock(block, role, before, why))
    return found


def without_data(prose: Prose) -> str:
    """A paragraph without inline code that is data; what is left are the asker's words, and names in them."""
    text = prose.text
    for code in prose.code:
        before, found, after = text.partition(f"`{code}`")
        if found and (EXAMPLE.search(code) or before.rstrip().endswith(INTRODUCES)):
            text = f"{before} {after}"
    return text


def _of_session(block: Block, lead: str) -> list[RoledBlock]:
    """`$ cat FILE` shows a file. Another command shows the output if the words before the session ask for one."""
    found: list[RoledBlock] = []
    asked, why = _by_words(lead[-FARTHEST:])
    for program in programs.parse(block.text):
        if not program.printed.strip():
            continue
        (first, *others) = program.commands or (None,)
        shown = Block(program.printed, block.language, block.quoted)
        if first is not None and not others and first.name in SHOWING and len(first.reads) == 1:
            found.append(RoledBlock(shown, Role.INPUT, first.reads[0], f"`{first.name}` shows it"))
        elif asked is Role.OUTPUT:
            found.append(RoledBlock(shown, Role.OUTPUT, lead, why))
    return found or [RoledBlock(block, Role.SESSION, lead, "it has prompts")]


def _role(block: Block, lead: str) -> tuple[Role, str]:
    for role, look in LOOKS:
        if match := look.search(block.text):
            return role, f"it looks like one: {match[0][:30]!r}"
    if programs.is_session(block.text):
        return Role.SESSION, "it has prompts"
    if programs.kind_of(block.text, block.language):
        return Role.ATTEMPT, "it is a program"
    return _by_words(lead)


def _by_words(lead: str) -> tuple[Role, str]:
    """The role by the nearest sentence that has a cue; among its cues, by the strongest."""
    for sentence in reversed(re.split(r"(?<=[.?!:])\s+|\n", lead)):
        for role, cue in CUES:
            if match := cue.search(sentence):
                return role, f"the words before it: {match[0][:60]!r}"
    return Role.UNKNOWN, ""


def _only_data(roles: Sequence[Role]) -> int | None:
    """The index of the only block of data among these; None if there is none or more than one."""
    at = [n for n, role in enumerate(roles) if role in (Role.UNKNOWN, Role.ACTUAL)]
    return at[0] if len(at) == 1 else None


def _by_place(found: list[RoledBlock]) -> tuple[RoledBlock, ...]:
    """Roles that no words give: data before the desired output is input, even if called output, provided it is the only data there; the
    last data after an input, if asked for, is the output.
    """
    roles = [each.role for each in found]
    first_output = roles.index(Role.OUTPUT) if Role.OUTPUT in roles else None
    if Role.INPUT not in roles and first_output is not None and (before := _only_data(roles[:first_output])) is not None:
        roles[before] = Role.INPUT
    if Role.INPUT not in roles and first_output is not None:
        for at in range(first_output):
            if roles[at] is Role.UNKNOWN:
                roles[at] = Role.INPUT
    if Role.OUTPUT in roles and Role.INPUT not in roles and roles.count(Role.OUTPUT) > 1:
        roles[roles.index(Role.OUTPUT)] = Role.INPUT
    if Role.OUTPUT not in roles and Role.INPUT in roles:
        later = [n for n, role in enumerate(roles) if role is Role.UNKNOWN and n > roles.index(Role.INPUT)]
        if later:
            roles[later[-1]] = Role.OUTPUT
    return tuple(
        each if role is each.role else RoledBlock(each.block, role, each.lead, "its position among the other blocks")
        for each, role in zip(found, roles, strict=True)
    )
