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

-- What a key was taken back, stopped or let go on for is not held against it a second time.
ALTER TABLE warmup_keys
    ADD COLUMN blamed_at timestamptz,             -- bounces, complaints and departures up to here have had their consequence
    ADD COLUMN resumed_at timestamptz;            -- let go on by hand: refusals up to here were known, too

-- Who refuses a sender that is not authenticated, in the words of those who made them, whoever says them.
INSERT INTO reply_rules (pattern, threshold, window_seconds, stop_domain, duration_seconds, advice, sample) VALUES
    ('sender is unauthenticated|does not meet the required authentication level', 1, 3600, true, 86400, 'SPF, DKIM or DMARC did not pass there. Put the DNS records right, verify the domain, then resume it.', '550 5.7.515 Access denied, sending domain news.example does not meet the required authentication level.');
-- Of a large provider one such refusal is enough; of anybody else three, for one odd host may read DNS wrongly.
INSERT INTO reply_rules (providers, pattern, threshold, window_seconds, stop_domain, duration_seconds, advice, sample) VALUES
    ('{apple,comcast,free,gmx,laposte,mailru,microsoft,microsoft365,orange,telekom,yahoo,yahoo_japan,yandex}', '[45]\.7\.26\M', 1, 3600, true, 86400, 'SPF and DKIM both failed there (RFC 7372). Look at the domain''s DNS records, verify the domain, then resume it.', '550 5.7.26 Multiple authentication checks failed for this message');
