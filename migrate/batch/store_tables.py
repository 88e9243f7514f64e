"""The tables in which a batch lives, beside DBOS's own in the same database.

Times are seconds since 1970 in UTC, by the database's clock where it is a server. JSON is text, so that SQLite and PostgreSQL hold the same.
"""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

VERSION = 1
"""Of these tables. A database with another one is refused: nothing is converted behind the user's back."""

METADATA = MetaData()

SCHEMA = Table("mm_schema", METADATA, Column("version", Integer, nullable=False))

BATCHES = Table(
    "mm_batch",
    METADATA,
    Column("name", String(200), primary_key=True),
    Column("created", Float(53), nullable=False),
    Column("is_paused", Boolean, nullable=False, default=False),
    Column("limits", Text, nullable=False),
    Column("sent", BigInteger, nullable=False, default=0),
)

VMS = Table(
    "mm_vm",
    METADATA,
    Column("batch", String(200), primary_key=True),
    Column("id", String(200), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("planned", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("image", Text),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Column("not_before", Float(53)),
    Column("open_window", Text),
    Column("disk_bytes", BigInteger),
    Column("state", String(20), nullable=False),
    # What the user asked for: "run", "pause" or "cancel".
    Column("wanted", String(20), nullable=False, default="run"),
    # Counts claims. Who acts for a VM does so under the number that its claim had; a higher one has taken its place.
    Column("fence", Integer, nullable=False, default=0),
    Column("worker", String(200)),
    # Under which key the durable work of its last claim runs; None where it came to its end.
    Column("work", String(500)),
    Column("attempt", Integer, nullable=False, default=0),
    # How often the source or the target was busy in this attempt.
    Column("busy", Integer, nullable=False, default=0),
    Column("stage", String(40)),
    Column("done", Float(53)),
    Column("total", Float(53)),
    Column("unit", String(20), nullable=False, default="B"),
    Column("rate", Float(53)),
    Column("left_s", Float(53)),
    Column("last", Text, nullable=False, default=""),
    Column("last_at", Float(53)),
    Column("began", Float(53)),
    Column("ended", Float(53)),
    Column("error", Text),
    Column("hint", Text),
    Column("reasons", Text),
    Column("job", Text),
    # What another host needs to go on: job.json, and the work folder in which the files beside it lie.
    Column("job_file", Text),
    Column("place", String(64)),
)

OUTCOMES = Table(
    "mm_outcome",
    METADATA,
    Column("batch", String(200), primary_key=True),
    Column("vm", String(200), primary_key=True),
    Column("outcome", Text, nullable=False),
)

LEDGER = Table(
    "mm_ledger",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("batch", String(200), nullable=False),
    Column("vm", String(200), nullable=False),
    Column("line", Text, nullable=False),
    Index("mm_ledger_of", "batch", "vm"),
)

STAGES = Table(
    "mm_stage",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("batch", String(200), nullable=False),
    Column("vm", String(200), nullable=False),
    Column("name", String(40), nullable=False),
    Column("began", Float(53), nullable=False),
    Column("ended", Float(53)),
    Column("summary", Text, nullable=False, default=""),
    Column("worker", String(200), nullable=False),
    Index("mm_stage_of", "batch", "vm"),
)

EVENTS = Table(
    "mm_event",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("batch", String(200), nullable=False),
    Column("vm", String(200), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("level", String(20), nullable=False),
    Column("text", Text, nullable=False),
    Index("mm_event_of", "batch", "vm"),
)

WORKERS = Table(
    "mm_worker",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("host", String(200), nullable=False),
    # Of the work folder: two processes with the same one see the same files.
    Column("place", String(64), nullable=False),
    # Of the process: whoever has the id under another one is not this one.
    Column("instance", String(64), nullable=False),
    Column("seen", Float(53), nullable=False),
    Column("until", Float(53), nullable=False),
)

SAMPLES = Table(
    "mm_sample",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("batch", String(200), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("sent", BigInteger, nullable=False),
    Index("mm_sample_of", "batch"),
)

PACES = Table(
    "mm_pace",
    METADATA,
    Column("batch", String(200), primary_key=True),
    Column("place", String(10), primary_key=True),
    Column("name", String(400), primary_key=True),
    Column("allowed", Integer, nullable=False),
    Column("changed", Float(53), nullable=False),
)
