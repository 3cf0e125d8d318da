"""Invents 300 conversations about colours and numbers to train a chat model on, and prints questions that are held out.

    python examples/colours_and_numbers.py colours.jsonl > held_out.txt

A held-out question asks in one way what the training conversations ask in others only. docs/chat.md shows what a model
of a million parameters makes of them.
"""

import json
import random
import sys
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

TRAINING, HELD_OUT = 300, 40
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
MIXES = {
    ("red", "yellow"): "orange", ("blue", "yellow"): "green", ("red", "blue"): "purple",
    ("red", "white"): "pink", ("black", "white"): "grey", ("red", "green"): "brown",
}  # fmt: skip
THINGS = {
    "the sky": "blue", "grass": "green", "a banana": "yellow", "snow": "white", "coal": "black", "a tomato": "red",
    "a carrot": "orange", "a plum": "purple", "an elephant": "grey", "chocolate": "brown", "a flamingo": "pink",
}  # fmt: skip
WAYS = {
    "sum": (
        "What is {0} plus {1}?", "Add {0} and {1}.", "How much is {0} and {1}?", "Tell me the sum of {0} and {1}.",
        "I have {0} and get {1}. What have I now?", "Please count {0} and {1} together.",
    ),
    "mix": (
        "Mix {0} and {1}.", "What do {0} and {1} make?", "I stir {0} into {1}. Which colour is it?",
        "Which colour is between {0} and {1}?", "Paint {0} over wet {1}. What do I see?", "Please blend {0} with {1}.",
    ),
    "next": (
        "What comes after {0}?", "Which number follows {0}?", "Count on from {0}.", "I am at {0}. What is next?",
        "Name the number after {0}.", "Please go on: {0} and then?",
    ),
    "thing": (
        "What colour is {0}?", "Which colour has {0}?", "Tell me the colour of {0}.", "I paint {0}. Which colour?",
        "Name the colour of {0}.", "Please say what colour {0} has.",
    ),
}  # fmt: skip


def questions() -> list[tuple[str, str, tuple[str, ...]]]:
    """Every question with its answer and the fact that it asks for."""
    digits = [str(n) for n in range(1, 6)]
    facts: list[tuple[str, tuple[str, ...], str]] = []
    facts += [("sum", (a, b), str(int(a) + int(b))) for a, b in product(digits, digits)]
    facts += [("mix", (a, b), mixed) for pair, mixed in MIXES.items() for a, b in (pair, pair[::-1])]
    facts += [("next", (a,), b) for a, b in pairwise(NUMBERS)]
    facts += [("thing", (thing,), colour) for thing, colour in THINGS.items()]
    return [(ask.format(*of), answer, (kind, *of)) for kind, of, answer in facts for ask in WAYS[kind]]


def divided(seed: int = 11) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The training questions and the held-out ones; of each fact, at most one question is held out."""
    every = questions()
    random.Random(seed).shuffle(every)
    asked: Counter[tuple[str, ...]] = Counter()
    held: list[tuple[str, str]] = []
    training: list[tuple[str, str]] = []
    for question, answer, fact in every:
        if len(held) < HELD_OUT and not asked[fact]:
            held.append((question, answer))
        elif len(training) < TRAINING:
            training.append((question, answer))
        asked[fact] += 1
    return training, held


def main() -> None:
    training, held = divided()
    lines = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in training
    ]
    Path(sys.argv[1]).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for question, answer in held:
        print(f"{question}\t{answer}")


if __name__ == "__main__":
    main()
