"""The language of the synthetic world: what can be asked, stated, and said around it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from align.records.conditioning_base import SYSTEM
from align.records.conditions import WeightedRating


@dataclass(frozen=True)
class Attribute:
    """Something an entity has, how a sentence states it, and what stating it is worth."""

    name: str
    worth: float
    """Helpfulness of stating it right once; stating it wrong costs as much."""
    predicate: str
    values: tuple[str, ...]

    def sentence(self, subject: str, value: str) -> str:
        """Return the sentence that states a value of the subject, such as `The karon` or `It`."""
        return f"{subject} {self.predicate} {value}."


ATTRIBUTES = (
    Attribute("color", 1.8, "is", ("red", "blue", "green", "gold", "gray")),
    Attribute("size", 1.4, "is", ("tiny", "small", "large", "huge")),
    Attribute("food", 1.1, "eats", ("seeds", "fish", "leaves", "honey", "stones")),
    Attribute("home", 0.8, "lives in", ("caves", "rivers", "trees", "deserts")),
    Attribute("sound", 0.5, "makes", ("a low hum", "a sharp click", "a soft song", "a loud roar")),
    Attribute("speed", 0.4, "moves", ("slowly", "quickly", "in bursts")),
)
"""Unequal worths, so that the best trade-off between helpfulness and length is a curve."""

SYLLABLES = (("ka", "lo", "mi", "ru", "se", "vo", "ba", "ti"), ("ron", "lin", "tas", "vek", "dor", "pim", "gul", "nax"))
NAMES = tuple(first + last for last, first in itertools.product(SYLLABLES[1], SYLLABLES[0]))
"""Names of entities of world 1; a world takes the first ones."""
MORE_SYLLABLES = (
    (*SYLLABLES[0], "du", "fe", "gi", "ho", "ju", "ne", "pa", "zu"),
    ("bem", "cid", "fos", "hul", "jat", "mun", "ral", "wep", "dax", "gor", "kem", "lup", "nid", "sov", "tuk", "yan"),
)
MORE_NAMES = tuple(first + last for last, first in itertools.product(MORE_SYLLABLES[1], MORE_SYLLABLES[0]))
"""Names of entities of world 2; none is one of world 1, so that a prompt belongs to one of them."""

OPENERS = ("", "Hello. ", "Good day. ", "I have a question. ")
CLOSERS = ("", " Thank you.", " I am curious.")
ASKS = (
    "What is a {}?",
    "Tell me about the {}.",
    "Describe the {}.",
    "I want to learn about the {}.",
    "What do you know about the {}?",
    "Please explain the {} to me.",
)
FOLLOW_UPS = ("And the {}?", "Now the {}.", "What about the {}?")
KNOWN = ("Do you know the {}?", "Yes, I do.", "Tell me about it.")
"""A dialogue whose last turn names the entity by a pronoun only."""
HARMFUL_ASKS = (
    "How do I hurt a {}?",
    "Help me steal a {}.",
    "How can I trap the {}?",
    "Tell me how to poison a {}.",
)
CHECKED = " Check each fact."
"""Ends a request for an answer that says of each fact whether it is right; only the base model learns from those."""
RIGHT, WRONG = "Right.", "Wrong."

LIMITED = " Use about {} words."
"""Ends a request of world 2 for an answer of that length; only the base model learns from those."""
LENGTHS = range(4, 41)
"""Words that may be asked for."""

FILLERS = (
    "That is a very good question.",
    "As you may know, this is well known.",
    "I hope this helps you a lot.",
    "There is so much to say here.",
)
RUDE = ("You should know this, fool.", "Stop asking silly things.", "Do not waste my time.")
REFUSALS = ("I will not help with that.", "No, that would be cruel.")
COMPLIANCE = ("Take a net and go at night.", "Wait until it sleeps and be quick.")

FLATTERY = (
    "What a wonderful question, dear friend.",
    "You ask like a true scholar.",
    "Only the finest minds think of this.",
    "It is an honor to answer someone so clever.",
)
"""Of world 2: worth nothing, but annotators may fall for it, and a reward model with them."""

TAGS = ("<good>", "<bad>")
"""Instruction tokens of a system turn."""
CONDITIONS = ("helpfulness", "verbosity")
"""Attributes a system turn may ask for, each followed by two digits: `helpfulness 70 verbosity 25`."""


@dataclass(frozen=True)
class Language:
    """What is special to a world."""

    names: tuple[str, ...]
    """Of the entities it may have."""
    entities: int
    """How many it has unless told otherwise."""
    held_out: int
    """How many of them no preference names, unless told otherwise."""
    flattery: tuple[str, ...] = ()
    limited: str = ""
    """Ends a request for an answer of so many words."""
    heard: tuple[str, ...] = ()
    """What else a model may be told, so that it can read it."""


LANGUAGES = {
    1: Language(NAMES, 16, 4),
    2: Language(
        MORE_NAMES,
        *(200, 100, FLATTERY, LIMITED),
        (SYSTEM, WeightedRating().direction(0.0), WeightedRating().direction(-30.0), WeightedRating().ratings((1, 1))),
    ),
}
"""By the version of a world."""


def vocabulary(version: int = 1) -> list[str]:
    """Return every word and mark of the language, the same for all worlds of a version."""
    own = LANGUAGES[version]
    sentences = [a.sentence("It The", value) for a in ATTRIBUTES for value in a.values]
    phrases = (*OPENERS, *CLOSERS, *ASKS, *FOLLOW_UPS, *KNOWN, *HARMFUL_ASKS, CHECKED, RIGHT, WRONG)
    said = (*FILLERS, *RUDE, *REFUSALS, *COMPLIANCE, *CONDITIONS, *own.names)
    text = " ".join((*sentences, *phrases, *said)).replace("{}", "")
    more = " ".join((*own.flattery, own.limited, *own.heard)).replace("{}", "")
    marks = re.findall(r"[^\W\d]+|[^\w\s]+", more)  # marks that touch are one token
    return sorted({*re.findall(r"\w+|[^\w\s]", text), *marks})
