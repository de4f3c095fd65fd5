"""Debates: two sides argue about a question before a judge that sees less than they do."""

from .cases import Case, Speech, Transcript, with_speeches
from .debaters import Debater, EndpointDebater, ModelDebater, ScriptedDebater
from .hold import PROTOCOLS, consultancy, debate, hold, undebated
from .judging import CountingJudge, ModelJudge, Rated
from .measures import debate_table, rise

__all__ = [
    "PROTOCOLS",
    "Case",
    "CountingJudge",
    "Debater",
    "EndpointDebater",
    "ModelDebater",
    "ModelJudge",
    "Rated",
    "ScriptedDebater",
    "Speech",
    "Transcript",
    "consultancy",
    "debate",
    "debate_table",
    "hold",
    "rise",
    "undebated",
    "with_speeches",
]
