-- Times are milliseconds since the Unix epoch, flags are 0 or 1, ids are UUIDv7 in their text form,
-- documents are UTF-8 JSON.

CREATE TABLE users (
  id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  erased_at INTEGER                 -- since when nothing is known of the person any more
);

CREATE TABLE applications (
  id TEXT PRIMARY KEY NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id),
  name TEXT NOT NULL,
  scope TEXT NOT NULL,              -- Global: every service; Individual: `service` alone
  service TEXT,
  allow_consume_global INTEGER NOT NULL DEFAULT 0, -- 1: what its own balance lacks comes from the general one
  limits TEXT,                        -- JSON: other limits than the catalogue's; null: those
  retention_ms INTEGER,             -- how long its finished tasks are kept; null: as the settings say
  disabled INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE INDEX applications_user ON applications (user_id);

CREATE TABLE credentials (
  id TEXT PRIMARY KEY NOT NULL,
  application_id TEXT NOT NULL REFERENCES applications (id),
  user_id TEXT NOT NULL REFERENCES users (id),
  name TEXT NOT NULL,
  token_hash TEXT NOT NULL UNIQUE,  -- SHA-256 of the token in hex: the token itself is nowhere
  token_end TEXT NOT NULL,          -- its last four characters, so that people can tell tokens apart
  limited_amount INTEGER,           -- micro-credits it may spend in all; null: what the balance allows
  host TEXT,                        -- the one host it may be used at; null: any
  allowed_api_ids TEXT,             -- JSON list; null: every operation
  metadata TEXT,                    -- JSON of the owner's own
  disabled INTEGER NOT NULL DEFAULT 0,
  expires_at INTEGER,
  revoked_at INTEGER,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
);
CREATE INDEX credentials_application ON credentials (application_id);

-- A task as it was accepted. Never changed: what moves is in `queue`, how it ended is in `endings`.
CREATE TABLE tasks (
  id TEXT PRIMARY KEY NOT NULL,
  service TEXT NOT NULL,
  operation TEXT NOT NULL,
  type TEXT NOT NULL,
  user_id TEXT NOT NULL,
  application_id TEXT NOT NULL,
  credential_id TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  visible INTEGER NOT NULL,         -- 0: an inline call, which the tasks API does not know
  created_at INTEGER NOT NULL,
  callback_url TEXT,
  base_url TEXT NOT NULL,           -- where this caller reaches the gateway: results are linked below it
  request BLOB NOT NULL,            -- the caller's body
  inputs BLOB                       -- uploaded pictures: field, storage name, file name, type, size
);
CREATE INDEX tasks_user ON tasks (user_id, service, id) WHERE visible = 1;
CREATE INDEX tasks_user_type ON tasks (user_id, service, type, id) WHERE visible = 1;
CREATE INDEX tasks_application ON tasks (user_id, application_id, service, id) WHERE visible = 1;
CREATE INDEX tasks_trace ON tasks (user_id, service, trace_id, id) WHERE visible = 1;

-- One row per unfinished task; it is deleted when the task ends, so it stays as small as the work is.
CREATE TABLE queue (
  task_id TEXT PRIMARY KEY NOT NULL,
  state TEXT NOT NULL,              -- queued, running
  due_at INTEGER NOT NULL,          -- when somebody must look; while leased: when the lease ends
  lease_id INTEGER,                 -- who may write; null: nobody works on it
  deadline_at INTEGER NOT NULL,     -- after which the task fails with `timeout`
  started_at INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  channel TEXT,                     -- of the open attempt; null: no attempt is open
  upstream_id TEXT,                 -- of the open attempt, once the upstream accepted it
  asked_at INTEGER,                 -- when the open attempt was opened
  limit_key TEXT,                   -- what it is counted under; null: nothing limits it
  kept_ms INTEGER NOT NULL,         -- how long the task is kept once it is over
  price INTEGER NOT NULL,           -- micro-credits for one unit, as it was when the task was accepted
  units INTEGER NOT NULL,           -- how many units were asked for
  held INTEGER NOT NULL,            -- micro-credits held of the application's own balance
  held_general INTEGER NOT NULL,    -- and of the general one
  general_id TEXT                   -- the application that is the general balance, if it pays
);
CREATE INDEX queue_due ON queue (due_at);
CREATE INDEX queue_limit ON queue (limit_key) WHERE limit_key IS NOT NULL;

CREATE TABLE endings (
  task_id TEXT PRIMARY KEY NOT NULL,
  state TEXT NOT NULL,              -- succeeded, failed, cancelled
  started_at INTEGER,
  finished_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,      -- when the task may be deleted
  b64 INTEGER NOT NULL,             -- 1: the caller asked for base64, which is read from the files
  response BLOB NOT NULL
);
CREATE INDEX endings_expires ON endings (expires_at);

-- Attempts that are over. The open one is in `queue`.
CREATE TABLE attempts (
  task_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  channel TEXT NOT NULL,
  upstream_id TEXT,
  asked_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  outcome TEXT NOT NULL,            -- succeeded, failed, unknown, lost
  code TEXT,
  status INTEGER,                   -- HTTP status of the upstream
  detail TEXT,                      -- the upstream's own words, for the operator
  PRIMARY KEY (task_id, number)
);

-- The files of a task: results and uploads. They have a life of their own: the result of an inline call is
-- kept longer than the record of the call.
CREATE TABLE files (
  name TEXT PRIMARY KEY NOT NULL,
  task_id TEXT NOT NULL,
  size INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  expires_at INTEGER NOT NULL
);
CREATE INDEX files_task ON files (task_id);
CREATE INDEX files_expires ON files (expires_at);

CREATE TABLE deliveries (
  id TEXT PRIMARY KEY NOT NULL,
  task_id TEXT NOT NULL,
  url TEXT NOT NULL,
  host TEXT NOT NULL,               -- scheme://host:port, the unit of fairness between receivers
  owner TEXT NOT NULL,              -- the application that is called back
  state TEXT NOT NULL,              -- pending, delivered, parked
  due_at INTEGER,                   -- null: nothing is due; while leased: when the lease ends
  lease_id INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  finished_at INTEGER
);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_task ON deliveries (task_id);

CREATE TABLE delivery_attempts (
  delivery_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  at INTEGER NOT NULL,
  status INTEGER,
  latency_ms INTEGER NOT NULL,
  error TEXT NOT NULL,              -- error class; empty: delivered
  PRIMARY KEY (delivery_id, number)
);

-- How many visible tasks there are, so that a total costs the same with a thousand and with a million.
-- Writers add to a slot of their own; a total is the sum over slots.
CREATE TABLE task_counts (
  user_id TEXT NOT NULL,
  service TEXT NOT NULL,
  type TEXT NOT NULL,
  application_id TEXT NOT NULL,
  slot INTEGER NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (user_id, service, type, application_id, slot)
);

CREATE TABLE idempotency (
  application_id TEXT NOT NULL,
  key TEXT NOT NULL,
  task_id TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  PRIMARY KEY (application_id, key)
);
CREATE INDEX idempotency_task ON idempotency (task_id);
