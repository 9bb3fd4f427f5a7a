-- What was refused for its sender's sake waits until the sender has put it right.
ALTER TABLE domains ADD COLUMN resumed_at timestamptz;
COMMENT ON COLUMN domains.resumed_at IS 'since when it goes on after a stop: until then no refused letter of it grew old';

-- The history of a warm-up cannot be emptied either, unless all domains go with it. After the fact: only then they are gone.
CREATE FUNCTION warmup_history_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM domains) THEN
        RAISE EXCEPTION 'the history of a warm-up is append only';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER warmup_history_not_emptied AFTER TRUNCATE ON warmup_history FOR EACH STATEMENT EXECUTE FUNCTION warmup_history_kept();
