-- Channels that are configured while the gateway runs. Those of `bide.toml` are not here.
CREATE TABLE channels (
  name TEXT COLLATE "C" PRIMARY KEY NOT NULL,
  settings TEXT COLLATE "C" NOT NULL,                -- JSON of a `[[channels]]` table, without the key
  key_sealed BYTEA,                                  -- the upstream's key, sealed; null: none
  key_end TEXT COLLATE "C" NOT NULL DEFAULT '',      -- its last four characters
  disabled BIGINT NOT NULL DEFAULT 0,                -- 1: it takes no new work
  removed_at BIGINT,                                 -- the row goes once nothing is open there; null: not removed
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL                         -- grows with every change
);

-- Who counts the slots of a bounded channel locks its row, so that two nodes do not count at the same time.
CREATE TABLE channel_locks (
  name TEXT COLLATE "C" PRIMARY KEY NOT NULL
);

ALTER TABLE queue ADD COLUMN slot TEXT COLLATE "C";  -- the bounded channel of which it holds a slot; null: none
ALTER TABLE queue ADD COLUMN waits_for TEXT COLLATE "C"; -- the capability it waits for a slot of; null: it does not wait
ALTER TABLE queue ADD COLUMN turn BIGINT;            -- its place among those that wait
ALTER TABLE queue ADD COLUMN progress BIGINT;        -- percent, as the upstream last said
ALTER TABLE queue ADD COLUMN callback_token TEXT COLLATE "C"; -- hash of the token in the address given to the upstream
CREATE INDEX queue_slot ON queue (slot) WHERE slot IS NOT NULL;
CREATE INDEX queue_waits ON queue (waits_for, turn, task_id) WHERE waits_for IS NOT NULL;
CREATE INDEX queue_token ON queue (callback_token) WHERE callback_token IS NOT NULL;

ALTER TABLE attempts ADD COLUMN resolved TEXT COLLATE "C"; -- what was found out about an unknown one; null: nothing yet
CREATE INDEX attempts_unknown ON attempts (ended_at) WHERE outcome IN ('unknown', 'lost');

-- How long work takes, learned from endings: a moving mean and deviation.
CREATE TABLE durations (
  service TEXT COLLATE "C" NOT NULL,
  operation TEXT COLLATE "C" NOT NULL,
  model TEXT COLLATE "C" NOT NULL,
  n BIGINT NOT NULL,                                 -- endings it was learned from
  mean_ms BIGINT NOT NULL,
  dev_ms BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (service, operation, model)
);
