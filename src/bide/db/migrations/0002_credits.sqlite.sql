-- Amounts are integer micro-credits: a credit is 1,000,000 of them.

-- What every movement was. Rows are only ever added (docs/decisions/0017).
CREATE TABLE ledger (
  ref TEXT NOT NULL,                -- the task, or the grant
  kind TEXT NOT NULL,               -- grant, hold, charge, release
  part INTEGER NOT NULL,            -- 0: the application's own balance; 1: the general one
  application_id TEXT NOT NULL,     -- whose balance
  amount INTEGER NOT NULL,
  at INTEGER NOT NULL,
  memo TEXT,                        -- of a grant: why
  PRIMARY KEY (ref, kind, part)
);
CREATE INDEX ledger_grants ON ledger (application_id) WHERE kind = 'grant';

-- The sums of the ledger by application, so that nobody has to add it up. Writers add to a slot of their own; a sum
-- is that over slots. `bide audit` proves them.
CREATE TABLE balances (
  application_id TEXT NOT NULL,
  slot INTEGER NOT NULL,
  granted INTEGER NOT NULL,
  used INTEGER NOT NULL,
  held INTEGER NOT NULL,
  PRIMARY KEY (application_id, slot)
);

-- The same by credential, for caps.
CREATE TABLE spending (
  credential_id TEXT NOT NULL,
  slot INTEGER NOT NULL,
  used INTEGER NOT NULL,
  held INTEGER NOT NULL,
  PRIMARY KEY (credential_id, slot)
);

-- One record per task that ended; it outlives the task.
CREATE TABLE usage (
  id TEXT PRIMARY KEY NOT NULL,     -- the task's
  user_id TEXT NOT NULL,
  application_id TEXT NOT NULL,
  credential_id TEXT NOT NULL,
  service TEXT NOT NULL,
  operation TEXT NOT NULL,
  trace_id TEXT NOT NULL,
  status INTEGER NOT NULL,          -- HTTP status of the outcome
  code TEXT,                        -- error code; null: it succeeded
  created_at INTEGER NOT NULL,
  elapsed_ms INTEGER NOT NULL,
  units INTEGER NOT NULL,           -- units that succeeded, of those that were asked for
  price INTEGER NOT NULL,           -- micro-credits for one, as agreed
  original_amount INTEGER NOT NULL, -- what was held
  deducted_amount INTEGER NOT NULL, -- what was charged in all
  deducted_general INTEGER NOT NULL, -- of that, from the general balance
  remaining_amount INTEGER NOT NULL, -- of the application, afterwards
  used_amount INTEGER NOT NULL
);
CREATE INDEX usage_user ON usage (user_id, id);
CREATE INDEX usage_application ON usage (application_id, id);
CREATE INDEX usage_trace ON usage (trace_id, id);

-- Tokens of the management API.
CREATE TABLE platform_tokens (
  id TEXT PRIMARY KEY NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id),
  token_hash TEXT NOT NULL UNIQUE,
  token_end TEXT NOT NULL,
  superuser INTEGER NOT NULL,       -- 1: sees and changes everything, not its own account alone
  expires_at INTEGER,
  revoked_at INTEGER,
  created_at INTEGER NOT NULL
);
CREATE INDEX platform_tokens_user ON platform_tokens (user_id);

-- What was erased, without saying whose it was.
CREATE TABLE erasures (
  id TEXT PRIMARY KEY NOT NULL,
  user_id TEXT NOT NULL,
  at INTEGER NOT NULL,
  receipt BLOB NOT NULL
);
CREATE UNIQUE INDEX erasures_user ON erasures (user_id);
