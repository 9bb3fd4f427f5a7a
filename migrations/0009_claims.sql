-- A lease is one row that names its letters, a mark moves a number in it, and the only thing written to a letter is what became of it.

CREATE TABLE claims (                             -- what workers hold just now; a few rows each
    fence bigint PRIMARY KEY,                     -- of the sequence `fences`
    campaign_id bigint,                           -- null: messages
    egress text NOT NULL DEFAULT 'relay',         -- the way out they are for
    ids bigint[] NOT NULL,                        -- the letters, in the order they are prepared in
    marked integer NOT NULL DEFAULT 0,            -- so many of them, from the first, may be on their way …
    aside bigint[] NOT NULL DEFAULT '{}',         -- … but for these: nothing of them is, and others may have them
    until timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500);
ALTER TABLE claims ALTER ids SET STORAGE EXTERNAL;  -- a mark writes its row anew, without them

-- What was in hand when the last version stopped is in doubt, or free, as after any other crash.
INSERT INTO claims (fence, campaign_id, ids, marked, until)
SELECT nextval('fences'), campaign_id, array_agg(id ORDER BY id), count(*), now() FROM deliveries WHERE state = 'handing_over' GROUP BY campaign_id;
UPDATE deliveries SET state = 'queued' WHERE state IN ('leased', 'handing_over');

DROP INDEX deliveries_leased;
ALTER TABLE deliveries DROP COLUMN lease_until;
COMMENT ON COLUMN deliveries.fence IS 'the claim that was lost with a worker: its late answer still counts';
