"""Made-up people. The only import of Faker, which comes with the first person that is drawn."""

from __future__ import annotations

import unicodedata
from functools import cache
from hashlib import blake2b
from typing import Any

ASKED = ("city", "state", "postcode", "current_country", "phone_number", "job", "company")
"""Faker's own names of what is asked of it, where the locale has it."""
NAMED = {"phone_number": "phone", "postcode": "postal_code", "current_country": "country"}


class Person:
    """Draws persons: names, address and work fit the locale, the e-mail address fits a Latin name.

    There is no birth date: it would change with the day of the run.
    """

    def __init__(self, locales: tuple[str, ...], sex: str | None, youngest: int, oldest: int) -> None:
        """Raises ValueError for a locale that Faker does not have."""
        self._fakers = [_faker(locale) for locale in locales]
        self._asked = [[(n, getattr(fake, n)) for n in ASKED if hasattr(fake, n)] for fake in self._fakers]
        self._locales = locales
        self._sex = sex
        self._ages = (youngest, oldest - youngest + 1)

    def __call__(self, chance: bytes) -> dict[str, Any]:
        more = int.from_bytes(blake2b(chance, digest_size=16).digest(), "big")
        more, which = divmod(more, len(self._fakers))
        more, years = divmod(more, self._ages[1])
        fake = self._fakers[which]
        fake.seed_instance(int.from_bytes(chance, "big"))
        sex = self._sex or ("female", "male")[more % 2]
        first, last = _either(fake, f"first_name_{sex}", "first_name"), _either(fake, f"last_name_{sex}", "last_name")
        row = {
            "first_name": first,
            "last_name": last,
            "name": f"{first} {last}",
            "sex": sex,
            "age": self._ages[0] + years,
            "email": _email(fake, first, last),
            "street_address": _either(fake, "street_address", "address").replace("\n", ", "),
        }
        row |= {NAMED.get(name, name): asked() for name, asked in self._asked[which]}
        row["locale"] = self._locales[which]
        return row


@cache
def _faker(locale: str) -> Any:
    """Opening a locale costs milliseconds. Each person seeds it anew, so that sharing one is safe."""
    from faker import Factory

    try:
        # drawn by real frequency, names cost six times as much and repeat themselves
        return Factory.create(locale, use_weighting=False)
    except AttributeError:
        raise ValueError(f"Faker has no locale {locale!r}; write it like en_US, de_DE or ja_JP") from None


def _either(fake: Any, first: str, second: str) -> str:
    """Not every locale tells names of women and men apart."""
    return str((getattr(fake, first, None) and getattr(fake, first)()) or getattr(fake, second)())


def _email(fake: Any, first: str, last: str) -> str:
    user = ".".join(filter(None, (_ascii(first), _ascii(last)))) or fake.user_name()
    return f"{user}@example.{('com', 'org', 'net')[len(first) % 3]}"


def _ascii(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in letters.lower() if letter.isascii() and letter.isalnum())
