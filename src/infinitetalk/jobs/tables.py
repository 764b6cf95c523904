"""The one table of the store, for SQLite and PostgreSQL alike."""

import sqlite3
from typing import Any

from sqlalchemy import Boolean, Engine, Float, Integer, String, Text, UniqueConstraint, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from infinitetalk.core.errors import MachineError, RequestError


class Base(DeclarativeBase):
    """All tables."""


class JobRow(Base):
    """A job."""

    __tablename__ = "infinitetalk_jobs"
    __table_args__ = (UniqueConstraint("owner", "key"),)

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    """The place in the queue."""
    id: Mapped[str] = mapped_column(String(32), unique=True)
    owner: Mapped[str] = mapped_column(String(128), index=True)
    key: Mapped[str | None] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64))
    """What the key stands for."""
    state: Mapped[str] = mapped_column(String(16), index=True)
    request: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float(53))
    started: Mapped[float | None] = mapped_column(Float(53))
    ended: Mapped[float | None] = mapped_column(Float(53))
    cancelling: Mapped[bool] = mapped_column(Boolean, default=False)
    progress: Mapped[str] = mapped_column(Text, default="{}")
    windows: Mapped[int] = mapped_column(Integer, default=0)
    """Finished ones when work began last."""
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str | None] = mapped_column(Text)
    made: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(String(200))
    lease: Mapped[float | None] = mapped_column(Float(53))
    """Until when the worker is believed to live."""
    version: Mapped[int] = mapped_column(Integer, default=0)


def open_database(url: str) -> Engine:
    """Connects, and makes the table if it is not there.

    Raises:
        RequestError: no URL of a database, or one whose driver is not installed.
        MachineError: the database does not answer.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        # The text may hold a password, so that it is not told.
        need = "must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; the latter needs the package psycopg"
        raise RequestError("database", f"of kind {url.partition(':')[0][:20]}", f"cannot be used: {need}") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _survive_power_cuts)
    try:
        Base.metadata.create_all(engine)
    except SQLAlchemyError as error:
        shown = parsed.render_as_string(hide_password=True)
        raise MachineError(f"the database {shown} does not answer ({type(error).__name__}); is it running?") from error
    return engine


def _survive_power_cuts(connection: sqlite3.Connection, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.close()
