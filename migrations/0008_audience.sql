-- An import writes one line a person, the consent; the timeline's entry is read from it. Null: not by an import.
ALTER TABLE consents
    ADD COLUMN import_id bigint,                  -- the job; it is forgotten after 30 days, this is not
    ADD COLUMN import_created boolean,            -- whether the import made the person or found them
    ADD COLUMN imported_at timestamptz;           -- `at` is when they agreed, which may be years before

-- Most people are active, and lists of them follow the primary key; the index is for those who are not.
DROP INDEX subscribers_status;
CREATE INDEX subscribers_status ON subscribers (status, id) WHERE status <> 'active';

-- The slots of an hour are put together once it is over; this finds those still to do.
CREATE INDEX counters_hours ON counters (campaign_id) WHERE slot <> 0 AND key LIKE 'hour.%';

-- A batch of opens is one statement that commits by itself. Sent again because its answer was lost, it is refused if it was stored.
ALTER TABLE signals ADD COLUMN batch bigint;      -- a random number, on one of a batch's rows
CREATE UNIQUE INDEX signals_batch ON signals (batch) WHERE batch IS NOT NULL;
