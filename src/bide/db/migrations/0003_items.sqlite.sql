-- What a task made and a later request may name: one row per thing, as long as its task.
CREATE TABLE items (
  id TEXT PRIMARY KEY NOT NULL,     -- public
  task_id TEXT NOT NULL,
  user_id TEXT NOT NULL,            -- whose requests may name it
  service TEXT NOT NULL,
  operation TEXT NOT NULL,          -- the path that made it
  kind TEXT NOT NULL,               -- image, video, song, …
  channel TEXT NOT NULL,            -- who made it, and alone can follow up on it
  position INTEGER NOT NULL,        -- in its task, from 0
  about BLOB NOT NULL,              -- JSON: what the channel's provider needs to follow up
  files BLOB NOT NULL               -- JSON: role, storage name, type and size of each of its files
);
CREATE INDEX items_task ON items (task_id);
-- the one kind that its owner can ask for a list of
CREATE INDEX items_listed ON items (user_id, id) WHERE kind = 'persona';
