"""Finds candidates that are the same task twice: by their solution, or by nearly equal words. Pure.

The first candidate stays. Words are compared by MinHash (signatures of word sequences, looked up in bands), so that each of a hundred
thousand candidates need not be compared with all others. The same input in the same order gives the same result everywhere.
"""

import hashlib
import re
from collections.abc import Iterable

from envfarm.core.candidate import Candidate, Gate, Rejection
from task_builders.candidates import patch
from task_builders.candidates.instruction import without_frame

WORDS_IN_RUN = 4
BANDS, ROWS = 20, 5
"""100 hashes. Texts that share 80 % of their sequences meet in a band with probability 0.9996; those that share 40 % with 0.19."""
_PRIME = (1 << 61) - 1
_TOP = (1 << 61) - 1
MIN_WORDS = 12
"""Shorter texts ("Fix the error message") are similar by chance; only their changes are compared."""

NEARLY_THE_SAME = "nearly the same words were seen before"

Signature = tuple[int, ...]


class NearTexts:
    """The texts seen so far, to find one that a new text is close to."""

    def __init__(self, threshold: float = 0.8) -> None:
        """`threshold`: the estimated share of common word sequences (0 to 1) above which texts are close."""
        self._threshold = threshold
        self._signatures: list[tuple[str, Signature]] = []
        self._bands: dict[tuple[int, Signature], list[int]] = {}

    def seen(self, text: str, name: str) -> tuple[str, float] | None:
        """The name of a close text, and the similarity; None for a new text, which is then remembered, or for a short one."""
        if len(words(text)) < MIN_WORDS:
            return None
        signature = minhash(text)
        if (near := self._nearest(signature)) is not None:
            return near
        for key in _banded(signature):
            self._bands.setdefault(key, []).append(len(self._signatures))
        self._signatures.append((name, signature))
        return None

    def _nearest(self, signature: Signature) -> tuple[str, float] | None:
        found: dict[int, None] = {}
        for key in _banded(signature):
            found.update(dict.fromkeys(self._bands.get(key, ())))
        for at in found:
            name, other = self._signatures[at]
            if (alike := similarity(signature, other)) > self._threshold:
                return name, alike
        return None


class Duplicates:
    """The candidates seen so far."""

    def __init__(self, threshold: float = 0.8) -> None:
        """`threshold`: the estimated share of common word sequences (0 to 1) above which a text is rejected."""
        self._patches: dict[str, str] = {}
        self._texts = NearTexts(threshold)

    def check(self, candidate: Candidate) -> Rejection | None:
        """The rejection of a candidate that was seen before; None for a new one, which is then remembered."""
        change = patch_hash(candidate.source_patch)
        if change in self._patches:
            return _reject(candidate, "the same change was seen before", self._patches[change])
        if (near := self._texts.seen(candidate.instruction, candidate.url)) is not None:
            return _reject(candidate, NEARLY_THE_SAME, near[0])
        self._patches[change] = candidate.url
        return None


def patch_hash(text: str) -> str:
    """`sha256:` of what a diff adds and removes, file by file in the order of their names.

    Ignores positions, context, hashes of blobs and white space, so that a cherry-pick to another branch is the same change.
    """
    h = hashlib.sha256()
    for file in sorted(patch.parse(text), key=lambda f: f.path):
        h.update(f"{file.path}\n".encode(errors="surrogatepass"))
        for sign, lines in (("-", file.removed), ("+", file.added)):
            for line in lines:
                if line.strip():
                    h.update(f"{sign}{' '.join(line.split())}\n".encode(errors="surrogatepass"))
        if file.is_binary:
            h.update(file.text.encode(errors="surrogatepass"))
    return "sha256:" + h.hexdigest()


def words(text: str) -> list[str]:
    """A text's words for comparison: letters and digits, in lower case."""
    return re.findall(r"\w+", without_frame(text).casefold())


def runs(text: str) -> set[int]:
    """Hashes of a text's word sequences."""
    said = words(text)
    found = {" ".join(said[n : n + WORDS_IN_RUN]) for n in range(max(1, len(said) - WORDS_IN_RUN + 1))}
    return {int.from_bytes(hashlib.blake2b(run.encode(errors="surrogatepass"), digest_size=8).digest()) & _TOP for run in found}


def minhash(text: str) -> Signature:
    """The signature of a text."""
    hashes = runs(text)
    return tuple(min((a * h + b) % _PRIME for h in hashes) for a, b in _coefficients())


def similarity(one: Signature, other: Signature) -> float:
    """The estimated share of sequences that two texts have in common, 0 to 1."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def _coefficients() -> Iterable[tuple[int, int]]:
    for n in range(BANDS * ROWS):
        seed = hashlib.blake2b(n.to_bytes(4), digest_size=16, person=b"minhash").digest()
        yield int.from_bytes(seed[:8]) % (_PRIME - 1) + 1, int.from_bytes(seed[8:]) % _PRIME


def _banded(signature: Signature) -> Iterable[tuple[int, Signature]]:
    for band in range(BANDS):
        yield band, signature[band * ROWS : (band + 1) * ROWS]


def _reject(candidate: Candidate, reason: str, first: str) -> Rejection:
    return Rejection.of(candidate, Gate.DUPLICATE, reason, first, evidence={"first": first})
