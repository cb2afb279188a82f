"""SQLite with an open database, rollback journal and write-ahead log, one of them inside a transaction."""

import sqlite3

from guest import expect, run

bases = {}


def prepare():
    for mode in ("delete", "wal"):
        bases[mode] = sqlite3.connect(f"{mode}.db", isolation_level=None)
        bases[mode].execute(f"pragma journal_mode={mode}")
        bases[mode].execute("create table t(x)")
        bases[mode].executemany("insert into t values(?)", [(n,) for n in range(1000)])
    bases["wal"].execute("begin")
    bases["wal"].execute("insert into t values(5000)")


def change(count):
    for base in bases.values():
        base.execute("delete from t where x % 2 = 0")
        base.execute("insert into t values(?)", (10_000 * count,))
    bases["wal"].execute("commit")
    bases["wal"].execute("vacuum")
    bases["delete"].execute("create table if not exists more(x)")
    bases["wal"].execute("begin")
    if count > 1:
        bases["wal"].execute("delete from t")


def verify():
    expect(bases["delete"].execute("select count(*), sum(x) from t").fetchone(), (1000, 499500))
    expect(bases["wal"].execute("select count(*), max(x) from t").fetchone(), (1001, 5000))
    expect(bases["wal"].in_transaction, True)
    for base in bases.values():
        expect(base.execute("pragma integrity_check").fetchone(), ("ok",))
        base.execute("insert into t values(-1)")
        base.execute("delete from t where x = -1")
    # Another connection sees what is committed, and nothing more.
    other = sqlite3.connect("wal.db")
    expect(other.execute("select count(*), max(x) from t").fetchone(), (1000, 999))
    other.close()


run(prepare, change, verify)
