-- A campaign of which letter after letter cannot be made is paused by itself, and says why.
ALTER TABLE campaigns ADD COLUMN stopped_reason text;
COMMENT ON COLUMN campaigns.stopped_reason IS 'why it was paused by itself; null: it was not, or has been resumed since';
