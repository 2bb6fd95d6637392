"""The board's tables. Another ``VERSION`` makes every board be rebuilt from its ledger."""

from __future__ import annotations

from ledger.jobs import State

VERSION = 2

CODE = {state: number for number, state in enumerate(State)}
"""How states are written in the columns: CREATED 0, QUEUED 1, RUNNING 2, PROCESSED 3, ends after.

Part of the file's format: reordering State needs another VERSION.
"""

TABLES = """
CREATE TABLE head (seq INTEGER NOT NULL, hash TEXT NOT NULL, origin TEXT NOT NULL);
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    state INTEGER NOT NULL,
    open INTEGER,              -- the state too, NULL once the job has ended
    queued_seq INTEGER,
    created TEXT NOT NULL,
    killing INTEGER NOT NULL,  -- a kill is wanted and the job has not ended
    dropped INTEGER NOT NULL,  -- it came through a drop folder and its files are here
    kept TEXT,                 -- when it ended, while its files are here
    ran TEXT,                  -- when it ended, if a worker ran it to that end
    lost TEXT,                 -- when its last run ended that was given up
    job BLOB NOT NULL          -- the whole Job, MessagePack
);
CREATE TABLE counts (
    model TEXT NOT NULL, state INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (model, state)
) WITHOUT ROWID;
CREATE TABLE steps_back (seq INTEGER PRIMARY KEY);  -- jobs created before the job before them
"""

# The partial indexes hold few jobs however many there are; `search` repeats the
# little that a search by text reads, so that it need not read whole jobs.
INDEXES = """
CREATE INDEX by_state ON jobs (state, seq);
CREATE INDEX by_model ON jobs (model, state, seq);
CREATE INDEX search ON jobs (seq, name, id, model);
CREATE INDEX open ON jobs (open, model, queued_seq) WHERE open IS NOT NULL;
CREATE INDEX killing ON jobs (seq) WHERE killing;
CREATE INDEX dropped ON jobs (seq, model) WHERE dropped;
CREATE INDEX kept ON jobs (kept) WHERE kept IS NOT NULL;
CREATE INDEX ran ON jobs (ran) WHERE ran IS NOT NULL;
CREATE INDEX lost ON jobs (lost) WHERE lost IS NOT NULL;
INSERT INTO counts SELECT model, state, count(*) FROM jobs GROUP BY model, state;
CREATE TRIGGER counts_new AFTER INSERT ON jobs BEGIN
    INSERT INTO counts VALUES (new.model, new.state, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
INSERT INTO steps_back SELECT seq FROM
    (SELECT seq, created < lag(created) OVER (ORDER BY seq) AS back FROM jobs) WHERE back;
CREATE TRIGGER steps_back_new AFTER INSERT ON jobs
WHEN new.created < (SELECT created FROM jobs WHERE seq < new.seq ORDER BY seq DESC LIMIT 1) BEGIN
    INSERT INTO steps_back VALUES (new.seq);
END;
CREATE TRIGGER counts_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN
    UPDATE counts SET n = n - 1 WHERE model = old.model AND state = old.state;
    INSERT INTO counts VALUES (new.model, new.state, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
"""

UPSERT = """
INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (seq) DO UPDATE SET
    state = excluded.state, open = excluded.open, queued_seq = excluded.queued_seq,
    killing = excluded.killing, dropped = excluded.dropped, kept = excluded.kept,
    ran = excluded.ran, lost = excluded.lost,
    job = excluded.job
"""
