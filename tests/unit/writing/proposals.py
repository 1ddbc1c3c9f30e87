"""A proposal as a writer's answer, and completions that carry one."""

import json
from typing import Any

from envfarm.testing.chat_server import Line, completion

FRUIT = "pear 3\napple 10\nfig 2\n"
BY_NUMBER = "fig 2\npear 3\napple 10\n"
GOOD: dict[str, Any] = {
    "title": "Order stock by its count",
    "instruction": "Each line of `stock.txt` has a name and a count. The program should print all lines in the order of their counts, the "
    "least first; lines with equal counts stay in the order of the file.",
    "files": {"stock.txt": FRUIT},
    "output": BY_NUMBER,
    "programs": [
        {"language": "shell", "text": "sort -s -n -k 2,2 stock.txt\n"},
        {
            "language": "python",
            "text": "rows = [line.split() for line in open('stock.txt')]\nfor row in sorted(rows, key=lambda each: int(each[1])):\n"
            "    print(*row)\n",
        },
    ],
    "held_out": [
        {"files": {"stock.txt": "kiwi 7\nplum 1\n"}, "output": "plum 1\nkiwi 7\n"},
        {"files": {"stock.txt": "lime 40\nlemon 5\ngrape 300\nmelon 5\n"}},
        {"files": {"stock.txt": "cherry 12\n"}},
        {"files": {"stock.txt": "date 9\nolive 8\nquince 7\nberry 100\nmango 11\n"}},
    ],
}


def answer(proposal: object, **usage: int) -> Line:
    """A completion whose text is a proposal, in a fence and with words around it."""
    text = proposal if isinstance(proposal, str) else f"Here it is:\n```json\n{json.dumps(proposal)}\n```\n"
    return Line(completion({"content": text}, **({"usage": usage} if usage else {})))
