-- Whose turn it is among a campaign's providers, and a history that nobody can shorten.

CREATE TABLE campaign_turns (                     -- of domains with caps: how often it was a provider's turn
    campaign_id bigint NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    provider text NOT NULL,
    gone bigint NOT NULL DEFAULT 0,               -- letters that were marked, or skipped, as often as they were
    again bigint NOT NULL DEFAULT 0,              -- of those, what came back to the queue
    PRIMARY KEY (campaign_id, provider)
) WITH (fillfactor = 50);

-- A domain takes its history with it; by itself none of it goes.
CREATE OR REPLACE FUNCTION warmup_history_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM domains WHERE id = OLD.domain_id) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the history of a warm-up is append only';
END $$;
CREATE TRIGGER warmup_history_kept BEFORE DELETE ON warmup_history FOR EACH ROW EXECUTE FUNCTION warmup_history_append_only();
