"""The file that holds an index: one SQLite database with full-text search and distances between vectors.

`apsw` brings a SQLite of its own: Python's `sqlite3` is on many machines built without what sqlite-vec needs to be
loaded (python.org's for macOS, pyenv's). Vectors lie in ordinary tables, and sqlite-vec gives the distances, so that
every filter is plain SQL and a document with its chunks, words and vectors is changed in one transaction.

Two tables hold what's made of a vector. `vectors` has each text's once, in float32; it's also what an ingest that was
interrupted has done already. `codes` has a bit for each number of each chunk's, 1 where it's above 0: 48 bytes for 384
numbers. A search looks through all codes, and computes exact distances for the nearest only. They are also the narrow
table that a search by words goes through: to read the chunks' texts for their documents' sake took three times as long.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import sqlite_vec

from minillm.rag.errors import RagError

FORMAT = 1
"""Of the tables; a file of another format is refused."""

_APPLICATION_ID = 0x6D6C7261  # "mlra"; `file` and we tell by it that a database is an index
_BUSY_MILLISECONDS = 30_000  # for another process's transaction

_CACHE_KIBIBYTES = 65_536  # all codes of 100,000 chunks stay in memory; SQLite's own 2 MB hold a fifth of them

_TABLES = f"""
pragma application_id = {_APPLICATION_ID};
pragma user_version = {FORMAT};
create table settings (name text primary key, value text not null) without rowid;
create table documents (
    id integer primary key,
    source text not null unique,
    title text not null,
    owner text not null,
    updated integer not null,          -- seconds since 1970, UTC
    classification integer not null,   -- place in CLASSIFICATIONS
    tenant text not null,
    version text not null,
    digest text not null,              -- of the document's bytes
    state text not null,               -- of all that its chunks were made from; as long as it's the same, so are they
    is_file integer not null           -- whether it goes when its file does
);
create index documents_tenant on documents (tenant, source);
create table chunks (
    id integer primary key,
    document integer not null references documents on delete cascade,
    position integer not null,
    heading text not null,
    place text not null,
    text text not null,
    digest text not null,              -- of the text that was embedded
    unique (document, position)
);
create index chunks_digest on chunks (digest);
create table vectors (digest text not null unique, vector blob not null);
create table codes (
    chunk integer primary key references chunks on delete cascade,
    document integer not null,
    position integer not null,
    code blob not null
);
create virtual table words using fts5 (
    heading, text, content = 'chunks', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);
create trigger words_insert after insert on chunks begin
    insert into words (rowid, heading, text) values (new.id, new.heading, new.text);
end;
create trigger words_delete after delete on chunks begin
    insert into words (words, rowid, heading, text) values ('delete', old.id, old.heading, old.text);
end;
"""


def open_database(path: str | Path, *, create: bool) -> apsw.Connection:
    """Opens an index's file, or makes one.

    Args:
        path: the file; ":memory:" is one that goes when it's closed.
        create: make it if it isn't there.

    Raises:
        RagError: if it isn't there, isn't an index, or is one of another version of minillm.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    try:
        database = apsw.Connection(str(path), flags=flags)
    except apsw.CantOpenError as error:
        raise RagError(f"There's no index at {path}. Make one with: minillm rag index PATH") from error
    try:
        _prepare(database, path)
    except apsw.NotADBError as error:
        database.close()
        raise RagError(f"{path} is no index: it isn't a SQLite database.") from error
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: apsw.Connection, path: str | Path) -> None:
    database.set_busy_timeout(_BUSY_MILLISECONDS)
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    database.enable_load_extension(False)
    database.transaction_mode = "IMMEDIATE"  # a transaction that reads first can't be overtaken before it writes
    if _is_empty(database):
        with database:  # which waits for others that write; so only where there's something to be written
            if _is_empty(database):
                database.execute(_TABLES)
    if database.pragma("application_id") != _APPLICATION_ID:
        raise RagError(f"{path} is no index: it's a SQLite database of something else.")
    if database.pragma("user_version") != FORMAT:
        raise RagError(
            f"{path} is an index of format {database.pragma('user_version')}; this version of minillm has {FORMAT}. "
            "Remove the file and index the documents again."
        )
    database.execute("pragma journal_mode = wal")  # searches go on while documents are added
    database.execute(f"pragma cache_size = -{_CACHE_KIBIBYTES}")
    # A power cut may cost the last transactions, never half of one.
    database.execute("pragma synchronous = normal; pragma foreign_keys = on")


def _is_empty(database: apsw.Connection) -> bool:
    return database.pragma("application_id") == 0 and not database.execute("select 1 from sqlite_schema").fetchall()


def get_setting(database: apsw.Connection, name: str) -> str | None:
    """A setting of the index, or None."""
    value: str | None = database.execute("select value from settings where name = ?", (name,)).get
    return value


def set_setting(database: apsw.Connection, name: str, value: str) -> None:
    """Keeps a setting of the index."""
    database.execute("insert or replace into settings values (?, ?)", (name, value))
