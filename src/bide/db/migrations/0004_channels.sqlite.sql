-- Channels that are configured while the gateway runs. Those of `bide.toml` are not here.
CREATE TABLE channels (
  name TEXT PRIMARY KEY NOT NULL,
  settings TEXT NOT NULL,                  -- JSON of a `[[channels]]` table, without the key
  key_sealed BLOB,                         -- the upstream's key, sealed; null: none
  key_end TEXT NOT NULL DEFAULT '',        -- its last four characters
  disabled INTEGER NOT NULL DEFAULT 0,     -- 1: it takes no new work
  removed_at INTEGER,                      -- the row goes once nothing is open there; null: not removed
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL              -- grows with every change
);

-- Who counts the slots of a bounded channel locks its row, so that two nodes do not count at the same time.
CREATE TABLE channel_locks (
  name TEXT PRIMARY KEY NOT NULL
);

ALTER TABLE queue ADD COLUMN slot TEXT;    -- the bounded channel of which it holds a slot; null: none
ALTER TABLE queue ADD COLUMN waits_for TEXT; -- the capability it waits for a slot of; null: it does not wait
ALTER TABLE queue ADD COLUMN turn INTEGER; -- its place among those that wait
ALTER TABLE queue ADD COLUMN progress INTEGER; -- percent, as the upstream last said
ALTER TABLE queue ADD COLUMN callback_token TEXT; -- hash of the token in the address given to the upstream
CREATE INDEX queue_slot ON queue (slot) WHERE slot IS NOT NULL;
CREATE INDEX queue_waits ON queue (waits_for, turn, task_id) WHERE waits_for IS NOT NULL;
CREATE INDEX queue_token ON queue (callback_token) WHERE callback_token IS NOT NULL;

ALTER TABLE attempts ADD COLUMN resolved TEXT; -- what was found out about an unknown one; null: nothing yet
CREATE INDEX attempts_unknown ON attempts (ended_at) WHERE outcome IN ('unknown', 'lost');

-- How long work takes, learned from endings: a moving mean and deviation.
CREATE TABLE durations (
  service TEXT NOT NULL,
  operation TEXT NOT NULL,
  model TEXT NOT NULL,
  n INTEGER NOT NULL,                      -- endings it was learned from
  mean_ms INTEGER NOT NULL,
  dev_ms INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (service, operation, model)
);
