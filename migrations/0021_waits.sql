-- What was refused for its sender's sake waits until the sender has put it right.
ALTER TABLE domains ADD COLUMN resumed_at timestamptz;
COMMENT ON COLUMN domains.resumed_at IS 'since when it goes on after a stop: until then no refused letter of it grew old';
