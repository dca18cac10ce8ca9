"""The tables of the job database. Every change of them needs a migration in `migrations/versions`."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text, false

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")
"""Type of serial numbers. SQLite assigns them by itself only in an INTEGER primary key."""

jobs = Table(
    "jobs",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("params", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("idempotency_key", String(255), unique=True),
    Column("request_hash", String(64), nullable=False),
    Column("source_job_id", String(64)),
    Column("webhook_url", Text),
    Column("batch_id", String(64)),
    Column("owner", String(128), nullable=False, server_default=""),
    Column("client", String(128), nullable=False, server_default=""),  # `Account.client`, charged for the job
    Column("rank", BigInteger),  # `Job.queue_order`, set at submission
    Column("hidden", Boolean, nullable=False, server_default=false()),  # cleared from the queue's listings
    Column("attempt", Integer, nullable=False),
    Column("saved_steps", Integer, nullable=False, server_default="0"),
    Column("progress_attempt", Integer, nullable=False, server_default="0"),
    Column("stalled_attempts", Integer, nullable=False, server_default="0"),
    Column("fencing_token", Integer, nullable=False),
    Column("lease_expires_at", Float(53)),
    Column("charged_until", Float(53)),  # time of the attempt that is charged; set while a generator works
    Column("cancel_requested", Boolean, nullable=False),
    Column("yield_token", Integer),
    Column("stage", String(32), nullable=False),
    Column("progress", Float(53), nullable=False),
    Column("current_step", Integer, nullable=False),
    Column("total_steps", Integer, nullable=False),
    Column("eta_seconds", Float(53)),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("completed_at", Float(53)),
    Column("output", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("searched_text", Text, nullable=False, server_default=""),  # of the prompts, by `rows.fold_text`
    Column("favorite", Boolean, nullable=False, server_default=false()),
    Column("tags", JSON, nullable=False, server_default="[]"),
    Column("deletion_due_at", Float(53)),  # while the deletion of a video can be undone
    Index("jobs_by_state", "state", "number"),
    Index("jobs_by_place", "state", "priority", "rank"),
    Index("jobs_by_model", "state", "model", "number"),
    Index("jobs_listed", "hidden", "number"),
    Index("jobs_listed_by_state", "hidden", "state", "number"),
    Index("jobs_by_batch", "batch_id", "number"),
    Index("jobs_by_owner", "owner", "number"),
    Index("jobs_by_owner_and_state", "owner", "state", "number"),
    Index("jobs_by_client_and_state", "client", "state"),
    Index("jobs_by_deletion", "deletion_due_at"),
)

job_counts = Table(
    "job_counts",
    metadata,
    Column("state", String(16), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("hidden", Boolean, primary_key=True),
    Column("priority", Integer, primary_key=True),
    Column("block", BigInteger, primary_key=True),
    Column("owner", String(128), primary_key=True),
    Column("jobs", BigInteger, nullable=False),
    Column("video_bytes", BigInteger, nullable=False),
)

deleted_jobs = Table(
    "deleted_jobs",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(128), nullable=False, server_default=""),
    Column("deleted_at", Float(53), nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("sequence", _Number, primary_key=True, autoincrement=True),
    Column("job_id", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    Column("data", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Index("events_by_job", "job_id", "sequence"),
    sqlite_autoincrement=True,
)

model_downloads = Table(  # for which pending jobs wait
    "model_downloads",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("progress", Float(53), nullable=False),
    Column("eta_seconds", Float(53)),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("data", Text, nullable=False),
    Column("seen_at", Float(53), nullable=False),
)

stats_history = Table(
    "stats_history",
    metadata,
    Column("minute", BigInteger, primary_key=True, autoincrement=False),  # minutes since the epoch
    Column("node", String(255), primary_key=True),
    Column("cpu_percent", Float(53), nullable=False),
    Column("ram_used_gb", Float(53), nullable=False),
    Column("ram_total_gb", Float(53), nullable=False),
    Column("gpu_percent", Float(53), nullable=False),
    Column("vram_used_mb", Float(53), nullable=False),
    Column("vram_total_mb", Float(53), nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("value", JSON, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),  # the header webhook-id
    Column("job_id", String(64), nullable=False),
    Column("owner", String(128), nullable=False, server_default=""),  # of the job, which may be deleted
    Column("url", Text, nullable=False),
    Column("receiver", String(300), nullable=False),  # host and port of the URL
    Column("trusted", Boolean, nullable=False),  # from the settings, so that a private address is allowed
    Column("type", String(32), nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float(53)),
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", Float(53), nullable=False),
    Column("delivered_at", Float(53)),
    Index("webhook_deliveries_due", "state", "next_attempt_at"),
    Index("webhook_deliveries_by_state", "state", "number"),
    Index("webhook_deliveries_by_job", "job_id", "number"),
    Index("webhook_deliveries_by_age", "created_at"),
    Index("webhook_deliveries_by_owner", "owner", "number"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("secret_hash", String(64), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("lifetime_seconds", Float(53)),  # a rotation shortens `expires_at` only
    Column("expires_at", Float(53)),
    Column("revoked_at", Float(53)),
    Column("last_used_at", Float(53)),
    Column("limits", JSON, nullable=False, server_default="{}"),
)

usage = Table(
    "usage",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since the epoch, in UTC
    Column("client", String(128), primary_key=True),
    Column("uploads", BigInteger, nullable=False),
    Column("upload_bytes", BigInteger, nullable=False),
    Column("gpu_seconds", Float(53), nullable=False),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("source", String(8), nullable=False),
    Column("actor", String(300), nullable=False),
    Column("key_id", String(32)),
    Column("action", String(64), nullable=False),
    Column("target", String(300), nullable=False),
    Column("details", JSON, nullable=False),
    Column("result", String(32), nullable=False),
    Index("audit_log_by_age", "at"),
    sqlite_autoincrement=True,
)

input_owners = Table(
    "input_owners",
    metadata,
    Column("key", String(255), primary_key=True),  # in the storage
    Column("owner", String(128), primary_key=True),
    Column("stored_at", Float(53), nullable=False),
)
