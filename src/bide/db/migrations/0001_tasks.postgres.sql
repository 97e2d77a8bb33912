-- Times are milliseconds since the Unix epoch, flags are 0 or 1, ids are UUIDv7 in their text form,
-- documents are UTF-8 JSON.

CREATE TABLE users (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  name TEXT COLLATE "C" NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  erased_at BIGINT                 -- since when nothing is known of the person any more
);

CREATE TABLE applications (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
  name TEXT COLLATE "C" NOT NULL,
  scope TEXT COLLATE "C" NOT NULL,              -- Global: every service; Individual: `service` alone
  service TEXT COLLATE "C",
  allow_consume_global BIGINT NOT NULL DEFAULT 0, -- 1: what its own balance lacks comes from the general one
  limits TEXT COLLATE "C",                        -- JSON: other limits than the catalogue's; null: those
  retention_ms BIGINT,             -- how long its finished tasks are kept; null: as the settings say
  disabled BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX applications_user ON applications (user_id);

CREATE TABLE credentials (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  application_id TEXT COLLATE "C" NOT NULL REFERENCES applications (id),
  user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
  name TEXT COLLATE "C" NOT NULL,
  token_hash TEXT COLLATE "C" NOT NULL UNIQUE,  -- SHA-256 of the token in hex: the token itself is nowhere
  token_end TEXT COLLATE "C" NOT NULL,          -- its last four characters, so that people can tell tokens apart
  limited_amount BIGINT,           -- micro-credits it may spend in all; null: what the balance allows
  host TEXT COLLATE "C",                        -- the one host it may be used at; null: any
  allowed_api_ids TEXT COLLATE "C",             -- JSON list; null: every operation
  metadata TEXT COLLATE "C",                    -- JSON of the owner's own
  disabled BIGINT NOT NULL DEFAULT 0,
  expires_at BIGINT,
  revoked_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX credentials_application ON credentials (application_id);

-- A task as it was accepted. Never changed: what moves is in `queue`, how it ended is in `endings`.
CREATE TABLE tasks (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  service TEXT COLLATE "C" NOT NULL,
  operation TEXT COLLATE "C" NOT NULL,
  type TEXT COLLATE "C" NOT NULL,
  user_id TEXT COLLATE "C" NOT NULL,
  application_id TEXT COLLATE "C" NOT NULL,
  credential_id TEXT COLLATE "C" NOT NULL,
  trace_id TEXT COLLATE "C" NOT NULL,
  visible BIGINT NOT NULL,         -- 0: an inline call, which the tasks API does not know
  created_at BIGINT NOT NULL,
  callback_url TEXT COLLATE "C",
  base_url TEXT COLLATE "C" NOT NULL,           -- where this caller reaches the gateway: results are linked below it
  request BYTEA NOT NULL,            -- the caller's body
  inputs BYTEA                       -- uploaded pictures: field, storage name, file name, type, size
);
CREATE INDEX tasks_user ON tasks (user_id, service, id) WHERE visible = 1;
CREATE INDEX tasks_user_type ON tasks (user_id, service, type, id) WHERE visible = 1;
CREATE INDEX tasks_application ON tasks (user_id, application_id, service, id) WHERE visible = 1;
CREATE INDEX tasks_trace ON tasks (user_id, service, trace_id, id) WHERE visible = 1;

-- One row per unfinished task; it is deleted when the task ends, so it stays as small as the work is.
CREATE TABLE queue (
  task_id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  state TEXT COLLATE "C" NOT NULL,              -- queued, running
  due_at BIGINT NOT NULL,          -- when somebody must look; while leased: when the lease ends
  lease_id BIGINT,                 -- who may write; null: nobody works on it
  deadline_at BIGINT NOT NULL,     -- after which the task fails with `timeout`
  started_at BIGINT,
  attempts BIGINT NOT NULL DEFAULT 0,
  channel TEXT COLLATE "C",                     -- of the open attempt; null: no attempt is open
  upstream_id TEXT COLLATE "C",                 -- of the open attempt, once the upstream accepted it
  asked_at BIGINT,                 -- when the open attempt was opened
  limit_key TEXT COLLATE "C",                   -- what it is counted under; null: nothing limits it
  kept_ms BIGINT NOT NULL,         -- how long the task is kept once it is over
  price BIGINT NOT NULL,           -- micro-credits for one unit, as it was when the task was accepted
  units BIGINT NOT NULL,           -- how many units were asked for
  held BIGINT NOT NULL,            -- micro-credits held of the application's own balance
  held_general BIGINT NOT NULL,    -- and of the general one
  general_id TEXT COLLATE "C"                   -- the application that is the general balance, if it pays
);
CREATE INDEX queue_due ON queue (due_at);
CREATE INDEX queue_limit ON queue (limit_key) WHERE limit_key IS NOT NULL;

CREATE TABLE endings (
  task_id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  state TEXT COLLATE "C" NOT NULL,              -- succeeded, failed, cancelled
  started_at BIGINT,
  finished_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,      -- when the task may be deleted
  b64 BIGINT NOT NULL,             -- 1: the caller asked for base64, which is read from the files
  response BYTEA NOT NULL
);
CREATE INDEX endings_expires ON endings (expires_at);

-- Attempts that are over. The open one is in `queue`.
CREATE TABLE attempts (
  task_id TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL,
  channel TEXT COLLATE "C" NOT NULL,
  upstream_id TEXT COLLATE "C",
  asked_at BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  outcome TEXT COLLATE "C" NOT NULL,            -- succeeded, failed, unknown, lost
  code TEXT COLLATE "C",
  status BIGINT,                   -- HTTP status of the upstream
  detail TEXT COLLATE "C",                      -- the upstream's own words, for the operator
  PRIMARY KEY (task_id, number)
);

-- The files of a task: results and uploads. They have a life of their own: the result of an inline call is
-- kept longer than the record of the call.
CREATE TABLE files (
  name TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  task_id TEXT COLLATE "C" NOT NULL,
  size BIGINT NOT NULL,
  content_type TEXT COLLATE "C" NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX files_task ON files (task_id);
CREATE INDEX files_expires ON files (expires_at);

CREATE TABLE deliveries (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  task_id TEXT COLLATE "C" NOT NULL,
  url TEXT COLLATE "C" NOT NULL,
  host TEXT COLLATE "C" NOT NULL,               -- scheme://host:port, the unit of fairness between receivers
  owner TEXT COLLATE "C" NOT NULL,              -- the application that is called back
  state TEXT COLLATE "C" NOT NULL,              -- pending, delivered, parked
  due_at BIGINT,                   -- null: nothing is due; while leased: when the lease ends
  lease_id BIGINT,
  attempts BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  finished_at BIGINT
);
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_task ON deliveries (task_id);

CREATE TABLE delivery_attempts (
  delivery_id TEXT COLLATE "C" NOT NULL,
  number BIGINT NOT NULL,
  at BIGINT NOT NULL,
  status BIGINT,
  latency_ms BIGINT NOT NULL,
  error TEXT COLLATE "C" NOT NULL,              -- error class; empty: delivered
  PRIMARY KEY (delivery_id, number)
);

-- How many visible tasks there are, so that a total costs the same with a thousand and with a million.
-- Writers add to a slot of their own; a total is the sum over slots.
CREATE TABLE task_counts (
  user_id TEXT COLLATE "C" NOT NULL,
  service TEXT COLLATE "C" NOT NULL,
  type TEXT COLLATE "C" NOT NULL,
  application_id TEXT COLLATE "C" NOT NULL,
  slot BIGINT NOT NULL,
  n BIGINT NOT NULL,
  PRIMARY KEY (user_id, service, type, application_id, slot)
);

CREATE TABLE idempotency (
  application_id TEXT COLLATE "C" NOT NULL,
  key TEXT COLLATE "C" NOT NULL,
  task_id TEXT COLLATE "C" NOT NULL,
  body_hash TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (application_id, key)
);
CREATE INDEX idempotency_task ON idempotency (task_id);
