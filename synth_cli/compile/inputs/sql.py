"""A query's rows, streamed. The address is a secret: it is in no message of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synth_cli.core.plain import plain
from synth_cli.errors import SetupError, UsageError
from synth_cli.spec.model import Sql

FETCH = 256


def query(source: Sql, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of `sql.query`, one column per name. Raises UsageError or SetupError in the database's own words."""
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    url = _address(source.url, folder)
    # what drivers take behind the question mark may be a password too
    shown = url.set(query={}).render_as_string(hide_password=True)
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except SQLAlchemyError as error:
        raise UsageError(f"input.sql.url: {_scrubbed(str(error), source.url, url)}", hint=URL_HINT) from None
    except ImportError as error:
        hint = f"install it, for example: pip install {error.name or 'the driver'}"
        raise SetupError(f"input.sql: {shown} needs a driver that is not installed: {error}", hint=hint) from None
    try:
        with engine.connect() as connection:
            # the query goes to the driver as it is written: neither ':name' nor '%' is a parameter here
            options = connection.execution_options(yield_per=FETCH, no_parameters=True)
            result = options.exec_driver_sql(source.query)
            if not result.returns_rows:
                raise UsageError("input.sql.query returns no rows", hint="write a SELECT; nothing was changed")
            names = _names(tuple(result.keys()))
            for cells in result:
                yield {name: plain(value) for name, value in zip(names, cells, strict=True)}
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        hint = f"try the query by itself at {shown}"
        raise UsageError(f"input.sql: {_scrubbed(str(cause), source.url, url)}", hint=hint) from None
    finally:
        engine.dispose()


URL_HINT = "write it as SQLAlchemy does: sqlite:///data.db, postgresql+psycopg://user:password@host/name"


def _address(text: str, folder: Path) -> Any:
    """The URL, a SQLite file's path taken from the spec's folder; such a file must exist, or SQLite would make it."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError

    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError("input.sql.url is not a database URL", hint=URL_HINT) from None
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return url
    path = folder / name
    if not path.is_file():
        raise UsageError(
            f"input.sql.url: there is no database {name} in {folder}", hint="a path is relative to the spec"
        )
    return url.set(database=str(path))


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        hint = "name them apart: SELECT a.id AS a_id, b.id AS b_id"
        raise UsageError(f"input.sql.query: more than one column is called {twice[0]!r}", hint=hint)
    return names


def _scrubbed(message: str, text: str, url: Any) -> str:
    for secret in (text, url.render_as_string(hide_password=False), url.password):
        if secret:
            message = message.replace(str(secret), "***")
    return message.strip()
