"""Texts for a schema's fields: what a field of that name, or of that format, usually holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from synth_cli.simulator.draw import Draw
from synth_cli.simulator.prose import sentence

Text: TypeAlias = Callable[[Draw], str]

FIRST = "Amara Bruno Chiara Dmitri Elena Farid Grace Hiroshi Ines Jonas Keiko Lena Mateo Nadia Omar Priya Rosa Samuel"
LAST = "Abbott Becker Castillo Dubois Eriksen Fischer Garcia Haddad Ivanova Jensen Kim Larsen Moreau Novak Okafor Patel"
CITIES = "Lisbon Kyoto Nairobi Toronto Oslo Lima Hanoi Vienna Dublin Accra Austin Tbilisi Porto Leipzig Cusco Perth"
COUNTRIES = "Portugal Japan Kenya Canada Norway Peru Vietnam Austria Ireland Ghana Georgia Germany Chile Australia"
JOBS = "nurse|teacher|carpenter|data analyst|librarian|marine biologist|chef|translator|architect|bus driver|editor"
TRADES = "Analytics Foods Labs Logistics Partners Press Studio Systems Textiles Works"
LANGUAGES = "English Spanish French German Portuguese Japanese Swahili Hindi Arabic Vietnamese"
COLORS = "amber blue crimson green indigo olive orange teal violet white"
HOBBIES = "chess|hiking|pottery|birdwatching|choir singing|cycling|baking|gardening|photography|table tennis"
THINGS = "olive oil|garlic|rice|tomatoes|coriander|ginger|chickpeas|lemon|onions|coconut milk|flour|thyme|butter"
AMOUNTS = "2 tablespoons|1 cup|200 g|3 cloves|half a teaspoon|1 bunch|400 ml|a pinch|2 large|150 g"
DEEDS = "Prepare|Combine|Check|Arrange|Review|Measure|Add|Compare|Warm|Sort|Mix|Set aside|Describe|Choose"
DETAILS = "until it is even|before going on|with care|in a second pass|for a few minutes|and keep the rest for later"
ADJECTIVES = "Quiet|Golden|Practical|Bright|Simple|Northern|Hidden|Everyday|Bold|Patient|Modern|Classic"
MOODS = "positive|negative|neutral|mixed"
UNITS = "g|ml|cups|pieces|minutes|km"


def one_of(choices: str) -> Text:
    options = tuple(choices.split("|") if "|" in choices else choices.split())
    return lambda draw: draw.pick(options)


first_name, last_name, city, country = one_of(FIRST), one_of(LAST), one_of(CITIES), one_of(COUNTRIES)
trade, deed, detail, adjective = one_of(TRADES), one_of(DEEDS), one_of(DETAILS), one_of(ADJECTIVES)
amount, thing = one_of(AMOUNTS), one_of(THINGS)


def full_name(draw: Draw) -> str:
    return f"{first_name(draw)} {last_name(draw)}"


def title(draw: Draw) -> str:
    return f"{adjective(draw)} {draw.word().capitalize()} and {draw.word().capitalize()}"


def email(draw: Draw) -> str:
    return f"{first_name(draw).lower()}.{last_name(draw).lower()}{draw.between(1, 99)}@example.com"


def username(draw: Draw) -> str:
    return f"{first_name(draw).lower()}{draw.between(10, 9999)}"


def url(draw: Draw) -> str:
    return f"https://www.example.com/{last_name(draw).lower()}/{draw.between(1, 9999)}"


def hostname(draw: Draw) -> str:
    return f"{last_name(draw).lower()}{draw.between(1, 99)}.example.com"


def phone(draw: Draw) -> str:
    return f"+1 555 01{draw.between(0, 99):02d} {draw.between(100, 999)}"


def street(draw: Draw) -> str:
    return f"{draw.between(1, 240)} {last_name(draw)} Street"


def address(draw: Draw) -> str:
    return f"{street(draw)}, {city(draw)}, {country(draw)}"


def company(draw: Draw) -> str:
    return f"{last_name(draw)} {trade(draw)}"


def date(draw: Draw) -> str:
    return f"{draw.between(1960, 2026)}-{draw.between(1, 12):02d}-{draw.between(1, 28):02d}"


def clock(draw: Draw) -> str:
    return f"{draw.between(0, 23):02d}:{draw.between(0, 59):02d}:{draw.between(0, 59):02d}"


def zoned_clock(draw: Draw) -> str:
    return f"{clock(draw)}Z"


def date_time(draw: Draw) -> str:
    return f"{date(draw)}T{clock(draw)}Z"


def duration(draw: Draw) -> str:
    return f"PT{draw.between(1, 90)}M"


def uuid(draw: Draw) -> str:
    high = draw.bits() & ~0xF000 | 0x4000
    low = draw.bits() & ~(3 << 62) | (1 << 63)
    text = f"{high:016x}{low:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def ipv4(draw: Draw) -> str:
    return f"192.0.2.{draw.between(1, 254)}"


def ipv6(draw: Draw) -> str:
    return f"2001:db8::{draw.between(1, 0xFFFF):x}"


def identifier(draw: Draw) -> str:
    return f"{draw.pick('ABCDEFGHKLMNPRSTUVWXYZ')}{draw.pick('ABCDEFGHKLMNPRSTUVWXYZ')}-{draw.between(1000, 99999)}"


def slug(draw: Draw) -> str:
    return f"{adjective(draw).lower()}-{last_name(draw).lower()}-{draw.between(1, 99)}"


def keyword(draw: Draw) -> str:
    return draw.word()


def ingredient(draw: Draw) -> str:
    return f"{amount(draw)} {thing(draw)}"


def step(draw: Draw) -> str:
    return f"{deed(draw)} the {draw.word()} {detail(draw)}."


def question(draw: Draw) -> str:
    return f"How does the {draw.word()} change when the {draw.word()} is different?"


def paragraph(draw: Draw) -> str:
    return f"{sentence(draw)} {sentence(draw)}"


def code(draw: Draw) -> str:
    return f"def {slug(draw).replace('-', '_')}(n):\n    return n + {draw.between(1, 9)}"


def base64(draw: Draw) -> str:
    return "c2ltdWxhdGVk"


FORMATS: Mapping[str, Text] = {
    "date": date,
    "time": zoned_clock,
    "date-time": date_time,
    "duration": duration,
    "email": email,
    "idn-email": email,
    "hostname": hostname,
    "idn-hostname": hostname,
    "ipv4": ipv4,
    "ipv6": ipv6,
    "uri": url,
    "url": url,
    "iri": url,
    "uri-reference": url,
    "iri-reference": url,
    "uri-template": url,
    "uuid": uuid,
    "json-pointer": lambda draw: f"/items/{draw.below(9)}",
    "relative-json-pointer": lambda draw: f"{draw.below(9)}",
    "regex": lambda draw: f"^[a-z]{{{draw.between(1, 9)}}}$",
    "byte": base64,
    "base64": base64,
}

FIELDS: Mapping[str, Text] = {
    name: text
    for names, text in (
        ("title headline heading subject header", title),
        ("name person author fullname character customer patient", full_name),
        ("firstname first given forename", first_name),
        ("lastname last surname family", last_name),
        ("email mail", email),
        ("username user login handle nickname", username),
        ("url uri link website homepage href", url),
        ("phone telephone mobile fax", phone),
        ("street road", street),
        ("address location", address),
        ("city town place origin", city),
        ("country nation nationality region", country),
        ("company organization organisation employer brand publisher", company),
        ("job occupation profession position role", one_of(JOBS)),
        ("language lang locale", one_of(LANGUAGES)),
        ("color colour", one_of(COLORS)),
        ("hobby interest activity", one_of(HOBBIES)),
        ("ingredient", ingredient),
        ("item product", thing),
        ("amount quantity portion", amount),
        ("unit", one_of(UNITS)),
        ("currency", one_of("EUR USD GBP JPY")),
        ("date birthday birthdate born deadline", date),
        ("time", clock),
        ("timestamp datetime created updated", date_time),
        ("duration", one_of("10 minutes|half an hour|two hours|a day")),
        ("id identifier sku serial number isbn", identifier),
        ("uuid guid", uuid),
        ("slug key filename file", slug),
        ("tag keyword topic category label genre type kind class theme word entity term", keyword),
        ("sentiment mood tone emotion verdict", one_of(MOODS)),
        ("gender", one_of("female male")),
        ("difficulty level", one_of("easy medium hard")),
        ("step instruction task action direction todo", step),
        ("question query", question),
        ("description text content body message story biography bio paragraph article essay review", paragraph),
        ("summary reason rationale explanation feedback comment note answer response reasoning thought", sentence),
        ("code snippet program function", code),
    )
    for name in names.split()
}
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def singular(name: str) -> str:
    """`steps` → `step`, `categories` → `category`: what one item of a list of that name is called."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    if name.endswith(("sses", "xes", "ches", "shes")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def text_for(name: str) -> Text:
    """What a field of this name holds: looked up whole, then by its words from the last to the first."""
    words = [part.lower() for part in PARTS.findall(name)]
    for candidate in ("".join(words), *reversed(words)):
        for form in (candidate, singular(candidate)):
            if form in FIELDS:
                return FIELDS[form]
    return sentence


def range_for(name: str) -> tuple[int, int]:
    """The whole numbers that a field of this name usually holds."""
    words = [part.lower() for part in PARTS.findall(name)]
    for word in reversed(words):
        for form in (word, singular(word)):
            if form in RANGES:
                return RANGES[form]
    return (1, 100)


RANGES: Mapping[str, tuple[int, int]] = {
    name: limits
    for names, limits in (
        ("age", (18, 85)),
        ("year", (1950, 2026)),
        ("month", (1, 12)),
        ("day", (1, 28)),
        ("hour", (0, 23)),
        ("minute duration time", (2, 90)),
        ("second", (0, 59)),
        ("score grade", (1, 10)),
        ("rating star", (1, 5)),
        ("confidence probability share ratio", (0, 1)),
        ("percent percentage", (0, 100)),
        ("price cost", (1, 250)),
        ("serving portion people", (1, 8)),
        ("calory calorie", (80, 900)),
        ("index rank", (0, 20)),
        ("latitude lat", (-90, 90)),
        ("longitude lon lng", (-180, 180)),
        ("temperature", (-10, 40)),
    )
    for name in names.split()
}
