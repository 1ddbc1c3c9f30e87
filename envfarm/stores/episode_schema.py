"""The tables of the episode store, for SQLite and PostgreSQL alike.

Used by the stores of episodes, rollouts, leases, usage and tokens. Times that anything is decided by are seconds of the database's clock
(`sql.db_now`); texts of times are for people.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Connection, Float, ForeignKey, Index, Integer, MetaData, Table, Text, text

from envfarm.stores.migrations import Schema

METADATA = MetaData()
_PENDING = text("state = 'pending'")
_DONE = text("state = 'done'")
_UNFINISHED = text("state IN ('pending', 'running')")

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
    Column("run_id", ForeignKey("runs.id"), nullable=False),
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
    Column("group_id", ForeignKey("groups.id"), nullable=True),
    Column("round", Integer, nullable=False, server_default="0"),
    Column("due", Float, nullable=False, server_default="0"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    # As in its rollout: what waits is looked for by both.
    Column("policy", Text, nullable=False, server_default=""),
    Column("player", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('pending', 'running', 'done', 'poisoned', 'cancelled')"),
    Index("episodes_by_state", "run_id", "state", "position"),
    Index("episodes_by_owner", "owner"),
    Index("episodes_by_group", "group_id", "round"),
    # What is unfinished is counted at each submission, of a tenant and of all: from an index of nothing else, however much is kept.
    Index("episodes_unfinished", "tenant", "state", sqlite_where=_UNFINISHED, postgresql_where=_UNFINISHED),
    # Hosts ask when the next one is due whenever a box is made or has ended: not by looking at all that wait.
    Index("episodes_pending", "due", sqlite_where=_PENDING, postgresql_where=_PENDING),
    # How a tenant's episodes did on a task is asked for whenever it looks at tasks.
    Index("episodes_done", "tenant", "task", sqlite_where=_DONE, postgresql_where=_DONE),
    # What waits of one policy is read from an index of its own, whatever waits of others.
    Index("episodes_waiting", "tenant", "policy", "due", "position", "player", sqlite_where=_PENDING, postgresql_where=_PENDING),
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("episode_id", ForeignKey("episodes.id"), primary_key=True),
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
    # What the host tells the others of itself; empty for a holder that plays nothing.
    Column("offer", Text, nullable=False, server_default=""),
)

TALLIES = Table(
    "tallies",
    METADATA,
    # That holds a lease; empty for all that ended. No foreign key: that one holds none.
    Column("host", Text, primary_key=True),
    Column("told", Text, nullable=False),
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
    Column("tenant", ForeignKey("tenants.id"), nullable=False),
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
    Column("id", ForeignKey("runs.id"), primary_key=True),
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
    CheckConstraint("kind IN ('rollout', 'episode', 'reward')"),
    CheckConstraint("state IN ('active', 'done', 'cancelled')"),
    Index("rollouts_by_key", "tenant", "key", unique=True),
    Index("rollouts_by_state", "state", "tenant", "policy"),
)

GROUPS = Table(
    "groups",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("rollout_id", ForeignKey("rollouts.id"), nullable=False),
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
    Column("acknowledged", Float, nullable=True),
    CheckConstraint("state IN ('waiting', 'playing', 'ready', 'acknowledged', 'cancelled')"),
    Index("groups_by_rollout", "rollout_id", "position"),
    Index("groups_by_state", "tenant", "state", "ready"),
    Index("groups_by_lease", "lease"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("rollout_id", ForeignKey("rollouts.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
)

ATTEMPTS = Table(
    "attempts",
    METADATA,
    # No foreign key: bills outlive what they are for.
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
    CheckConstraint("state IN ('running', 'estimated', 'measured')"),
    Index("attempts_by_tenant", "tenant", "run_id", "episode_id"),
    Index("attempts_by_host", "host", "state"),
    Index("attempts_by_end", "ended"),
)

ENGINES = Table(
    "engines",
    METADATA,
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("spec", Text, nullable=False),
)


def _offers_and_acknowledgements(c: Connection) -> None:
    c.execute(text("ALTER TABLE leases ADD COLUMN offer TEXT NOT NULL DEFAULT ''"))
    c.execute(text("ALTER TABLE groups ADD COLUMN acknowledged DOUBLE PRECISION"))


def _rates_by_task(c: Connection) -> None:
    c.execute(text("CREATE INDEX episodes_done ON episodes (tenant, task) WHERE state = 'done'"))


def _tallies(c: Connection) -> None:
    c.execute(text("CREATE TABLE tallies (host TEXT NOT NULL PRIMARY KEY, told TEXT NOT NULL)"))


SCHEMA = Schema(
    METADATA,
    first=8,
    advice="begin with an empty one: move the file away, or set ENVFARM_DATABASE; it held runs and tenants alone, tasks are elsewhere",
    steps=(_offers_and_acknowledgements, _rates_by_task, _tallies),
)
