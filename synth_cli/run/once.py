"""The user's function is called once for each answer of a run, however often a pass comes by the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from synth_cli.core.identity import Contents
from synth_cli.core.values import decode, encode
from synth_cli.errors import UsageError
from synth_cli.responses.parse import Parse, RememberedError
from synth_cli.spec.functions import told
from synth_cli.stores.worksheet import Worksheet


class Once:
    """Satisfies `Parse`. What the function gave is kept in the run's worksheet, and the words of what it raised."""

    def __init__(self, step: str, parse: Parse, worksheet: Worksheet) -> None:
        self._step = step
        self._parse = parse
        self._worksheet = worksheet

    def __call__(self, row: dict[str, Any], response: Any) -> Any:
        try:
            key = Contents().of({"step": self._step, "row": row, "response": response})
        except TypeError:
            # of what cannot be told apart nothing is kept
            return self._parse(row, response)
        known = self._worksheet.recalled(key)
        if known is not None:
            before = decode(known)
            if "raised" in before:
                raise RememberedError(before["raised"])
            return before["given"]
        try:
            given = self._parse(row, response)
            if isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes):
                given = list(given)
        except Exception as error:
            # the user's function may raise anything: whoever called for it makes it that row's trouble
            self._worksheet.remember(key, encode({"raised": told(error)}))
            raise
        try:
            self._worksheet.remember(key, encode({"given": given}))
        except UsageError:
            # it will say so again, and the row's trouble is told elsewhere
            return given
        return given
