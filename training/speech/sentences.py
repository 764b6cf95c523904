"""Template sentences with wide phoneme coverage, written for this corpus (no third-party text)."""

from __future__ import annotations

import random
import re


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS: dict[str, tuple[str, ...]] = {
    "thing": _words("""
        bottle bridge bucket button cabbage camera candle carpet castle chair cheese cherry chimney coin
        collar copper cousin cradle curtain daisy drawer engine envelope feather fiddle fire fountain garage
        garlic glove goat grape guitar hammer harbor helmet honey hook iron island jacket jar jewel journey
        juice kettle kitchen kite ladder lantern leaf lemon letter lizard luggage machine magazine marble
        melon mirror mitten mouth movie mushroom needle noise notebook oath oil onion orange oven owl paddle
        parcel pebble pencil picture pigeon pillow pitcher pocket puzzle quilt rabbit radio raven ribbon
        robe rope rug sail sausage shadow shelf ship shoulder shovel soup spoon stairway stove sugar sweater
        table teacup thimble thistle thorn thread throne thumb toe tongue tooth towel toy treasure tulip
        tunnel turtle umbrella valley vase vegetable vest village violin vision voyage wagon walnut watch
        wave whistle window wing wolf wood wool yacht yard yolk zebra zipper
    """),
    "mass": _words("""
        butter bread chalk clay coal coffee dust flour fog glue gold hay ice ink jam mud music oatmeal paint
        paper pepper rain rice salt sand smoke snow soap steam tea thunder vapor vinegar water weather wheat
        wool
    """),
    "quality": _words("""
        ancient awkward beige bitter bold brief broad brown calm cautious cheap chilly clean crooked curious
        damp dark deep dull dusty early easy enormous faint fair famous fancy fierce flat fresh frozen full
        funny gentle giant glossy good gray green happy harsh heavy hollow humble icy joyful juicy large
        lazy little loyal lucky lush major merry mild modern moist mute narrow noisy odd pale peculiar pink
        plain playful poor precious proud purple quick quiet rare raw ripe rough round royal rusty sharp
        shiny shy silent silky simple sleepy slow small smooth soft sour square stiff strange sturdy sweet
        tall tame tasty thick thin thorough tidy tiny tough unusual usual vague vivid warm weak wealthy wet
        wide wise woolen worn young
    """),
    "does": _words("""
        admires avoids blames brushes builds buries calls carries catches checks chooses combs copies covers
        crushes describes drags draws drops enjoys exchanges fetches finds fixes forgets gathers guards
        hides holds ignores judges keeps kicks knows leaves lifts loses loves measures mentions moves needs
        notices offers opens paints pinches polishes pours praises prepares promises pulls pushes reaches
        remembers repairs scratches serves shakes shares shows shuts sketches smells squeezes steals
        stretches studies swaps teaches throws touches trades trusts understands uses values visits voices
        wants warms washes watches weaves wishes-for wraps _ -
    """),
    "do": _words("""
        borrow bring buy carry change choose clean cover drop enjoy feed fix follow give grab have hear help
        hold keep know like lose love make measure move need open pass push reach save see sell share show
        take teach throw touch use view want wash watch
    """),
    "who": (
        "my uncle", "her daughter", "the baker", "our teacher", "the judge", "a young nurse", "the pilot", "your boss",
        "his grandmother", "the farmer", "nobody", "everybody", "one of us", "that woman", "the other man", "a friend",
        "the choir", "the whole village", "Hugh", "Margaret", "Thomas", "Beverly", "Joyce", "Wolfgang", "Yvonne",
        "Felix", "Paula", "Mabel", "Rupert", "Zoe", "the author", "the shop keeper", "my father", "his mother",
        "the poor fellow", "a tall boy", "the girl with the brown hat", "some people",
    ),
    "plural": (
        "we", "they", "you", "the children", "five men", "both of them", "my parents", "the workers", "two brave mice",
        "her friends", "the women", "most people", "all the fishermen",
    ),
    "where": (
        "above", "across", "against", "along", "around", "behind", "below", "beneath", "beside", "between", "beyond",
        "by", "from under", "inside", "near", "next to", "opposite", "outside", "over", "past", "through", "toward",
        "underneath", "with", "without",
    ),
    "when": (
        "after breakfast", "again", "all afternoon", "already", "at half past five", "at once", "before lunch",
        "by the evening", "during the voyage", "each Thursday", "every morning", "for a while", "for the first time",
        "from time to time", "in July", "in the middle of March", "last February", "most of the time", "never again",
        "on Wednesday", "once a month", "over and over", "right now", "sooner or later", "this week", "tomorrow",
        "twice a year", "usually", "very carefully", "whenever possible", "with both hands", "without a word",
        "yesterday",
    ),
    "place": (
        "the old bridge", "the market", "our house", "the north shore", "the beach", "the church tower", "the bakery",
        "that dark forest", "the museum", "the railway", "a small hotel", "the roof", "the school yard",
        "the top of the hill", "the farm", "the pub", "the theatre", "a quiet corner", "the river mouth",
    ),
    "opener": (
        "Actually, ", "After all, ", "And then ", "As far as I know, ", "Believe me, ", "But ", "Either way, ",
        "For example, ", "Frankly, ", "From what I hear, ", "Honestly, ", "I believe that ", "I suppose ", "In fact, ",
        "In my opinion, ", "Look, ", "Meanwhile, ", "My point is, ", "No doubt, ", "Oh, ", "Perhaps ", "So, ",
        "Strangely enough, ", "They say that ", "To be fair, ", "Unfortunately, ", "We both know that ", "Yes, ",
        "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
    ),
    "short": (
        "Yes.", "No!", "Maybe.", "Why?", "Of course.", "Wow!", "Thank you very much.", "Good morning!", "Good bye.",
        "Oh boy!", "Never mind.", "Who, me?", "Absolutely.", "Please, come in.", "Are you sure?", "Watch out!",
        "How much?", "Happy birthday!", "What for?", "Well, well.", "Stop it!", "Beautiful.", "Let me show you.",
        "Hmm, I see.", "I am so sorry.", "What a shame!", "You and me both.", "Give it a push.", "It's up to you.",
        "Far above.", "Five more.", "Huge!", "Moving on.", "Bye for now.", "Sure, why not?", "Go ahead.",
    ),
}  # fmt: skip

STATEMENTS = (
    "{opener}{who} {does} the {quality} {thing} {where} the {thing}.",
    "{opener}{who} {does} a {quality} {thing} {when}.",
    "{opener}the {thing} {where} {place} is {quality}, but the {thing} is {quality}.",
    "{opener}{plural} {do} some {mass} and a {thing} {when}.",
    "{opener}{plural} never {do} the {mass} {where} {place}.",
    "{opener}when {who} {does} the {thing}, {plural} {do} the {mass}.",
    "{opener}if {plural} {do} {number} {thing}s, {who} {does} the {quality} {thing}.",
    "{opener}it takes {number} {thing}s and a lot of {mass} to {do} one {quality} {thing}.",
    "{opener}there was {mass} on the {thing}, {mass} in the {thing}, and {mass} all over {place}.",
    "{opener}{who} said that the {thing} was {quality}, {quality}, and far too {quality}.",
    "{opener}nothing {where} {place} is as {quality} as a {thing} full of {mass}.",
    "{opener}a {quality} {thing} and a {quality} {thing} make a {quality} pair.",
    "{who} and {who} went past {place} {when}.",
    "The {quality} {mass} came from {place}; the {thing} did not.",
    "You will find the {thing} {where} {place}, page {number}.",
)
QUESTIONS = (
    "Would {plural} {do} a {quality} {thing} {when}?",
    "Why did {who} {do} the {thing} {where} {place}?",
    "Where can {plural} {do} {number} {quality} {thing}s?",
    "How many {thing}s did you {do} {when}?",
    "Do you want the {thing}, the {thing}, or just the {mass}?",
    "Which {thing} belongs to {who}?",
    "Have you ever seen {mass} {where} a {quality} {thing}?",
    "Isn't the {mass} {where} {place} rather {quality}?",
)
EXCLAMATIONS = (
    "What a {quality} {thing}!",
    "Please, {do} the {thing} {when}!",
    "Oh no, the {mass} fell {where} the {thing}!",
    "How {quality} the {mass} looks {when}!",
    "Bravo, {who} {does} the {thing}!",
    "Don't {do} my {quality} {thing}!",
)
LISTS = (
    "{thing}s, {thing}s, {mass}, and {number} {quality} {thing}s.",
    "First the {thing}, then the {thing}, and {when} the {thing}.",
    "{mass}, {mass}, more {mass}.",
    "{number}, {number}, {number}, {number}.",
    "The numbers are {number}, {number}, and {number}.",
    "Room {number}, {place}, {number} {thing} street.",
    "{quality}, {quality}, {quality}, and then {when} {quality} once more.",
)
KINDS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.56, STATEMENTS),
    (0.16, QUESTIONS),
    (0.09, EXCLAMATIONS),
    (0.10, LISTS),
    (0.09, ("{short}", "{short} {short}", "{short} {plural} {do} the {thing} {when}.")),
)

_FIELD = re.compile(r"{(\w+)}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeio]|un|umbr)")


def _number(rng: random.Random) -> str:
    return str(rng.choice((rng.randint(0, 20), rng.randint(0, 99), rng.randint(100, 2100), 100 * rng.randint(1, 50))))


def english(rng: random.Random) -> str:
    """One English sentence (or a short exclamation, a list, a row of numbers)."""
    templates = rng.choices([kind for _, kind in KINDS], [weight for weight, _ in KINDS])[0]

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        return _number(rng) if name == "number" else rng.choice(WORDS[name]).replace("-", " ")

    text = _ARTICLE.sub(r"\1n ", _FIELD.sub(fill, rng.choice(templates)))
    return text[0].upper() + text[1:]
