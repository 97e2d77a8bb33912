-- Amounts are integer micro-credits: a credit is 1,000,000 of them.

-- What every movement was. Rows are only ever added (docs/decisions/0017).
CREATE TABLE ledger (
  ref TEXT COLLATE "C" NOT NULL,                -- the task, or the grant
  kind TEXT COLLATE "C" NOT NULL,               -- grant, hold, charge, release
  part BIGINT NOT NULL,            -- 0: the application's own balance; 1: the general one
  application_id TEXT COLLATE "C" NOT NULL,     -- whose balance
  amount BIGINT NOT NULL,
  at BIGINT NOT NULL,
  memo TEXT COLLATE "C",                        -- of a grant: why
  PRIMARY KEY (ref, kind, part)
);
CREATE INDEX ledger_grants ON ledger (application_id) WHERE kind = 'grant';

-- The sums of the ledger by application, so that nobody has to add it up. Writers add to a slot of their own; a sum
-- is that over slots. `bide audit` proves them.
CREATE TABLE balances (
  application_id TEXT COLLATE "C" NOT NULL,
  slot BIGINT NOT NULL,
  granted BIGINT NOT NULL,
  used BIGINT NOT NULL,
  held BIGINT NOT NULL,
  PRIMARY KEY (application_id, slot)
);

-- The same by credential, for caps.
CREATE TABLE spending (
  credential_id TEXT COLLATE "C" NOT NULL,
  slot BIGINT NOT NULL,
  used BIGINT NOT NULL,
  held BIGINT NOT NULL,
  PRIMARY KEY (credential_id, slot)
);

-- One record per task that ended; it outlives the task.
CREATE TABLE usage (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,     -- the task's
  user_id TEXT COLLATE "C" NOT NULL,
  application_id TEXT COLLATE "C" NOT NULL,
  credential_id TEXT COLLATE "C" NOT NULL,
  service TEXT COLLATE "C" NOT NULL,
  operation TEXT COLLATE "C" NOT NULL,
  trace_id TEXT COLLATE "C" NOT NULL,
  status BIGINT NOT NULL,          -- HTTP status of the outcome
  code TEXT COLLATE "C",                        -- error code; null: it succeeded
  created_at BIGINT NOT NULL,
  elapsed_ms BIGINT NOT NULL,
  units BIGINT NOT NULL,           -- units that succeeded, of those that were asked for
  price BIGINT NOT NULL,           -- micro-credits for one, as agreed
  original_amount BIGINT NOT NULL, -- what was held
  deducted_amount BIGINT NOT NULL, -- what was charged in all
  deducted_general BIGINT NOT NULL, -- of that, from the general balance
  remaining_amount BIGINT NOT NULL, -- of the application, afterwards
  used_amount BIGINT NOT NULL
);
CREATE INDEX usage_user ON usage (user_id, id);
CREATE INDEX usage_application ON usage (application_id, id);
CREATE INDEX usage_trace ON usage (trace_id, id);

-- Tokens of the management API.
CREATE TABLE platform_tokens (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
  token_hash TEXT COLLATE "C" NOT NULL UNIQUE,
  token_end TEXT COLLATE "C" NOT NULL,
  superuser BIGINT NOT NULL,       -- 1: sees and changes everything, not its own account alone
  expires_at BIGINT,
  revoked_at BIGINT,
  created_at BIGINT NOT NULL
);
CREATE INDEX platform_tokens_user ON platform_tokens (user_id);

-- What was erased, without saying whose it was.
CREATE TABLE erasures (
  id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  user_id TEXT COLLATE "C" NOT NULL,
  at BIGINT NOT NULL,
  receipt BYTEA NOT NULL
);
CREATE UNIQUE INDEX erasures_user ON erasures (user_id);
