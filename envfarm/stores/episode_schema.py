"""The tables of the episode store, and the numbered steps that bring a database to them. SQLite and PostgreSQL alike.

Used by the stores of episodes, rollouts, leases, usage and tokens. A step that was ever released is never edited: a change is a
further step. Times that anything is decided by are seconds of the database's clock (`sql.db_now`); texts of times are for people.
"""

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, MetaData, Table, Text, insert, select, text

METADATA = MetaData()

RUNS = Table(
    "runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("created_at", Text, nullable=False),
    Column("note", Text, nullable=False),
)

EPISODES = Table(
    "episodes",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("member", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("owner", Text, nullable=True),
    Column("epoch", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("position", Integer, nullable=False),
    # Of rollouts alone, empty for the runs of a command line:
    Column("tenant", Text, nullable=False, server_default=""),
    Column("group_id", Text, nullable=True),
    Column("round", Integer, nullable=False, server_default="0"),
    Column("due", Float, nullable=False, server_default="0"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    # As in its rollout: what waits is looked for by both.
    Column("policy", Text, nullable=False, server_default=""),
    Column("player", Text, nullable=False, server_default=""),
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("episode_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("reward", Float, nullable=True),
    Column("outcome", Text, nullable=False),
    Column("committed_at", Text, nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("host", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("until", Float, nullable=False),
)

TENANTS = Table(
    "tenants",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("quota", Text, nullable=False),
    Column("created_at", Text, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("digest", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Text, nullable=False),
)

POLICIES = Table(
    "policies",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("paused", Integer, nullable=False),
)

ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("key", Text, nullable=True),
    Column("asked", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("player", Text, nullable=False, server_default=""),
    Column("window", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("deadline", Float, nullable=True),
    Column("ended", Float, nullable=True),
    Column("events", Integer, nullable=False),
)

GROUPS = Table(
    "groups",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("rollout_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("size", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("version", Integer, nullable=True),
    Column("state", Text, nullable=False),
    Column("ready", Float, nullable=True),
    Column("lease", Text, nullable=True),
    Column("lease_until", Float, nullable=True),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("rollout_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("episode_id", Text, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cpus", Float, nullable=False),
    Column("memory_gib", Float, nullable=False),
    Column("started", Float, nullable=False),
    Column("ended", Float, nullable=True),
    # What its boxes had and used, the fields of `core.usage.Usage`:
    Column("boxes", Integer, nullable=False),
    Column("unmeasured", Integer, nullable=False),
    Column("box_s", Float, nullable=False),
    Column("cpu_used_s", Float, nullable=False),
    Column("cpu_granted_s", Float, nullable=False),
    Column("memory_granted_gib_s", Float, nullable=False),
    Column("memory_peak_gib_s", Float, nullable=False),
    Column("pulled_bytes", BigInteger, nullable=False),
)

ENGINES = Table(
    "engines",
    METADATA,
    Column("position", Integer, primary_key=True),
    Column("spec", Text, nullable=False),
)

VERSION = Table("schema_version", METADATA, Column("version", Integer, nullable=False))

_OLD_EPISODE = "id, run_id, task, member, spec, state, attempts, owner, epoch, detail, position"
_OLD_OUTCOME = "episode_id, kind, reward, outcome, committed_at"
_OUTCOMES = (
    "CREATE TABLE outcomes (episode_id TEXT PRIMARY KEY REFERENCES episodes (id), kind TEXT NOT NULL,"
    " reward DOUBLE PRECISION, outcome TEXT NOT NULL, committed_at TEXT NOT NULL)"
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE runs (id TEXT PRIMARY KEY, created_at TEXT NOT NULL, note TEXT NOT NULL)",
        (
            "CREATE TABLE episodes (id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id), task TEXT NOT NULL,"
            " member INTEGER NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL"
            " CHECK (state IN ('pending', 'running', 'done', 'poisoned')), attempts INTEGER NOT NULL, owner TEXT,"
            " epoch INTEGER NOT NULL, detail TEXT NOT NULL, position INTEGER NOT NULL)"
        ),
        "CREATE INDEX episodes_by_state ON episodes (run_id, state, position)",
        "CREATE INDEX episodes_by_owner ON episodes (owner)",
        _OUTCOMES,
    ),
    # Rollouts. Episodes can be cancelled: SQLite changes no CHECK, so both tables are made anew.
    (
        "CREATE TABLE old_episodes AS SELECT * FROM episodes",
        "CREATE TABLE old_outcomes AS SELECT * FROM outcomes",
        "DROP TABLE outcomes",
        "DROP TABLE episodes",
        (
            "CREATE TABLE rollouts (id TEXT PRIMARY KEY REFERENCES runs (id), tenant TEXT NOT NULL, key TEXT, asked TEXT NOT NULL,"
            " request TEXT NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('rollout', 'episode', 'reward')), policy TEXT NOT NULL,"
            " \"window\" INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('active', 'done', 'cancelled')),"
            " created DOUBLE PRECISION NOT NULL, deadline DOUBLE PRECISION, ended DOUBLE PRECISION, events INTEGER NOT NULL)"
        ),
        "CREATE UNIQUE INDEX rollouts_by_key ON rollouts (tenant, key)",
        "CREATE INDEX rollouts_by_state ON rollouts (state, tenant, policy)",
        (
            "CREATE TABLE groups (id TEXT PRIMARY KEY, rollout_id TEXT NOT NULL REFERENCES rollouts (id), tenant TEXT NOT NULL,"
            " task TEXT NOT NULL, position INTEGER NOT NULL, size INTEGER NOT NULL, round INTEGER NOT NULL, version INTEGER,"
            " state TEXT NOT NULL CHECK (state IN ('waiting', 'playing', 'ready', 'acknowledged', 'cancelled')),"
            " ready DOUBLE PRECISION, lease TEXT, lease_until DOUBLE PRECISION)"
        ),
        "CREATE INDEX groups_by_rollout ON groups (rollout_id, position)",
        "CREATE INDEX groups_by_state ON groups (tenant, state, ready)",
        "CREATE INDEX groups_by_lease ON groups (lease)",
        (
            "CREATE TABLE episodes (id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (id), task TEXT NOT NULL,"
            " member INTEGER NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL"
            " CHECK (state IN ('pending', 'running', 'done', 'poisoned', 'cancelled')), attempts INTEGER NOT NULL, owner TEXT,"
            " epoch INTEGER NOT NULL, detail TEXT NOT NULL, position INTEGER NOT NULL, tenant TEXT NOT NULL DEFAULT '',"
            " group_id TEXT REFERENCES groups (id), round INTEGER NOT NULL DEFAULT 0, due DOUBLE PRECISION NOT NULL DEFAULT 0,"
            " deaths INTEGER NOT NULL DEFAULT 0)"
        ),
        f"INSERT INTO episodes ({_OLD_EPISODE}) SELECT {_OLD_EPISODE} FROM old_episodes",  # noqa: S608 - constants of this file
        _OUTCOMES,
        f"INSERT INTO outcomes ({_OLD_OUTCOME}) SELECT {_OLD_OUTCOME} FROM old_outcomes",  # noqa: S608 - see above
        "DROP TABLE old_outcomes",
        "DROP TABLE old_episodes",
        "CREATE INDEX episodes_by_state ON episodes (run_id, state, position)",
        "CREATE INDEX episodes_by_owner ON episodes (owner)",
        "CREATE INDEX episodes_by_due ON episodes (tenant, state, due, position)",
        "CREATE INDEX episodes_by_group ON episodes (group_id, round)",
        (
            "CREATE TABLE events (rollout_id TEXT NOT NULL REFERENCES rollouts (id), number INTEGER NOT NULL,"
            " at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (rollout_id, number))"
        ),
        "CREATE TABLE leases (host TEXT PRIMARY KEY, epoch INTEGER NOT NULL, until DOUBLE PRECISION NOT NULL)",
        "CREATE TABLE tenants (id TEXT PRIMARY KEY, quota TEXT NOT NULL, created_at TEXT NOT NULL)",
        (
            "CREATE TABLE tokens (digest TEXT PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants (id), name TEXT NOT NULL,"
            " scopes TEXT NOT NULL, created_at TEXT NOT NULL)"
        ),
        (
            "CREATE TABLE policies (tenant TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, paused INTEGER NOT NULL,"
            " PRIMARY KEY (tenant, name))"
        ),
    ),
    # Who plays, so that a host can leave a policy to others. Quotes inside of JSON's strings are escaped: this is never a tenant's text.
    (
        "ALTER TABLE rollouts ADD COLUMN player TEXT NOT NULL DEFAULT ''",
        """UPDATE rollouts SET player = 'trainer' WHERE request LIKE '%"policy":{"name":"trainer",%'""",
    ),
    # What attempts used. No row hangs on its episode's: bills outlive what they are for.
    (
        (
            "CREATE TABLE attempts (episode_id TEXT NOT NULL, epoch INTEGER NOT NULL, attempt INTEGER NOT NULL, run_id TEXT NOT NULL,"
            " tenant TEXT NOT NULL, host TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('running', 'estimated', 'measured')),"
            " cpus DOUBLE PRECISION NOT NULL, memory_gib DOUBLE PRECISION NOT NULL, started DOUBLE PRECISION NOT NULL,"
            " ended DOUBLE PRECISION, boxes INTEGER NOT NULL, unmeasured INTEGER NOT NULL, box_s DOUBLE PRECISION NOT NULL,"
            " cpu_used_s DOUBLE PRECISION NOT NULL, cpu_granted_s DOUBLE PRECISION NOT NULL,"
            " memory_granted_gib_s DOUBLE PRECISION NOT NULL, memory_peak_gib_s DOUBLE PRECISION NOT NULL,"
            " pulled_bytes BIGINT NOT NULL, PRIMARY KEY (episode_id, epoch, attempt))"
        ),
        "CREATE INDEX attempts_by_tenant ON attempts (tenant, run_id, episode_id)",
        "CREATE INDEX attempts_by_host ON attempts (host, state)",
        "CREATE INDEX attempts_by_end ON attempts (ended)",
    ),
    # The engines that sample for programs, for every process that serves a model.
    ("CREATE TABLE engines (position INTEGER PRIMARY KEY, spec TEXT NOT NULL)",),
    # What is unfinished is counted at each submission, of a tenant and of all: from an index of nothing else, however much is kept.
    ("CREATE INDEX episodes_unfinished ON episodes (tenant, state) WHERE state IN ('pending', 'running')",),
    # Hosts ask when the next one is due whenever a box is made or has ended: not by looking at all that wait.
    ("CREATE INDEX episodes_pending ON episodes (due) WHERE state = 'pending'",),
    # What waits of one policy is read from an index of its own, whatever waits of others. Only what is unfinished is ever looked for.
    (
        "ALTER TABLE episodes ADD COLUMN policy TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE episodes ADD COLUMN player TEXT NOT NULL DEFAULT ''",
        (
            "UPDATE episodes SET policy = (SELECT policy FROM rollouts WHERE rollouts.id = episodes.run_id),"
            " player = (SELECT player FROM rollouts WHERE rollouts.id = episodes.run_id)"
            " WHERE tenant <> '' AND state IN ('pending', 'running')"
        ),
        "CREATE INDEX episodes_waiting ON episodes (tenant, policy, due, position, player) WHERE state = 'pending'",
        "DROP INDEX episodes_by_due",
    ),
)

MIGRATION_LOCK = 7_305_202
"""PostgreSQL's advisory lock for whoever migrates: two processes may start at once."""


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, inside the caller's write transaction. A newer database is refused with `ValueError`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
    connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"))
    found = connection.execute(select(VERSION.c.version)).scalar()
    if found is None:
        connection.execute(insert(VERSION).values(version=0))
    if (found or 0) > len(MIGRATIONS):
        raise ValueError(f"the database has schema {found}, this program knows {len(MIGRATIONS)}: a newer envfarm made it")
    for statements in MIGRATIONS[found or 0 :]:
        for statement in statements:
            connection.execute(text(statement))
    if (found or 0) < len(MIGRATIONS):
        connection.execute(VERSION.update().values(version=len(MIGRATIONS)))
