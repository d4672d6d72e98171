"""A study's trials on a server that a team shares, in the place of a file beside the records.

PostgreSQL, because its advisory locks go with their connection: whoever dies lets its study go.
One process at a time asks and tells for a study, as with the file, so that the numbers drawn are
those of its seed; several studies, and everybody who only looks, share the server.
"""

import hashlib
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from studies.search import Book, Taken

TABLES = "tables"  # what is locked while Optuna's tables are made


class Database(Book):
    """The trials of one study in a database, which one process at a time may work on."""

    def __init__(self, url: str, name: str):
        """url: postgresql://USER@HOST/DATABASE. name: of the study. Raises ValueError."""
        try:
            parsed = make_url(url)
        except ArgumentError:
            parsed = None
        if parsed is None or parsed.get_backend_name() != "postgresql":
            raise ValueError(
                f"--storage wants a PostgreSQL address, got {_discreet(url)!r}. "
                "Give postgresql://USER@HOST/DATABASE."
            )
        if parsed.drivername == "postgresql":  # what that stands for differs between SQLAlchemys
            parsed = parsed.set(drivername="postgresql+psycopg2")
        self.url, self.name = parsed, name

    def __enter__(self) -> "Database":
        """Connect, lock the study, make the tables where there are none; ValueError, Taken."""
        with ExitStack() as stack:
            try:
                engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
                stack.callback(engine.dispose)
                connection = stack.enter_context(engine.connect())
                if not _locked(connection, self.name):
                    raise Taken(
                        f"study {self.name} is run by another process, which works on it in "
                        f"{_discreet(self.url)}. Wait for it, or stop it."
                    )
                self.storage = self._storage(connection)
            except ImportError as error:
                raise ValueError(
                    f"a study in PostgreSQL needs a driver ({error}). "
                    "Install it: pip install 'classifier-heads-benchmark[team]'."
                ) from None
            except SQLAlchemyError as error:
                first = str(getattr(error, "orig", error)).partition("\n")[0]
                raise ValueError(
                    f"{_discreet(self.url)} does not answer ({first}). "
                    "Start it, or mend the address."
                ) from None
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection, which frees the study; ValueError where the server went away."""
        self._open.close()
        if isinstance(error, (StorageInternalError, SQLAlchemyError)):
            raise ValueError(
                f"{_discreet(self.url)} went away in the middle of study {self.name}. When it is "
                "back, the same command goes on where this one stopped."
            ) from None

    def _storage(self, connection: Connection) -> RDBStorage:
        """Optuna's own; of several processes on an empty database one makes the tables."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _number(TABLES)})
        try:
            address = self.url.render_as_string(hide_password=False)
            return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
        finally:
            connection.execute(
                text("SELECT pg_advisory_unlock(:number)"), {"number": _number(TABLES)}
            )


def _locked(connection: Connection, name: str) -> bool:
    asked = text("SELECT pg_try_advisory_lock(:number)")
    return bool(connection.execute(asked, {"number": _number(f"study {name}")}).scalar())


def _number(name: str) -> int:
    """The 64-bit number by which PostgreSQL knows a lock of ours."""
    content = f"classifier heads {name}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], signed=True)


def _discreet(url: Any) -> str:
    """An address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return str(url)
