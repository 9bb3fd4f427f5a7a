-- Warm-up per sending domain × way out × provider, and the queue in the order in which letters leave.

-- ── Who is written to first ───────────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE engaged ADD COLUMN clicked_at timestamptz;  -- the last click of a person, as `at` is the last open or click

-- `rank` sorts a provider's letters: the tier (0 the most engaged) above 27 bits of chance. Zero where nothing is held: then letters
-- leave in the order they were made in, which costs least.
ALTER TABLE deliveries
    ADD COLUMN rank integer NOT NULL DEFAULT 0,
    ADD COLUMN egress text;                       -- the way out it was marked for; null: not handed over yet

-- One index a kind of waiting: fresh letters by provider and rank, refused ones by when they are due again. So a provider's
-- thousand refusals are never walked through by who looks for something to send.
CREATE INDEX deliveries_queue ON deliveries (campaign_id, provider, rank) WHERE state = 'queued';
CREATE INDEX deliveries_again ON deliveries (campaign_id, provider, due_at) WHERE state = 'deferred';
DROP INDEX deliveries_due;

CREATE TABLE campaign_lanes (                     -- a campaign's providers with the letters it has for each; grows with the fan-out
    campaign_id bigint NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    provider text NOT NULL,
    letters bigint NOT NULL,
    PRIMARY KEY (campaign_id, provider)
);
INSERT INTO campaign_lanes (campaign_id, provider, letters)
SELECT deliveries.campaign_id, deliveries.provider, count(*)
FROM deliveries JOIN campaigns ON campaigns.id = deliveries.campaign_id AND campaigns.finished_at IS NULL
GROUP BY deliveries.campaign_id, deliveries.provider;

-- ── Where each key of the warm-up stands ──────────────────────────────────────────────────────────────────────────────

ALTER TABLE warmups                               -- one a domain: what the owner chose; `state` is 'paused' by hand, or 'warming'
    ADD COLUMN restricted boolean NOT NULL DEFAULT false,  -- paused or with ceilings: held even where the preset is none
    ADD COLUMN rules jsonb NOT NULL DEFAULT '{}',          -- numbers that differ from the usual ones
    ADD COLUMN hold boolean NOT NULL DEFAULT false,        -- levels stay where they are
    ADD COLUMN exempt boolean NOT NULL DEFAULT true,       -- messages are counted, but never held
    ADD COLUMN watched_at timestamptz,                     -- when it was last judged
    ADD COLUMN version bigint NOT NULL DEFAULT 0;          -- rises with every change: who waits for room looks again

CREATE TABLE warmup_keys (
    domain_id bigint NOT NULL REFERENCES domains ON DELETE CASCADE,
    egress text NOT NULL,
    provider text NOT NULL,                       -- '*': all of them together
    level integer NOT NULL DEFAULT 1 CHECK (level >= 1),  -- warm-up days, not calendar days
    judged_on date,                               -- the UTC day up to which it was judged
    next_at timestamptz,                          -- small caps: no letter before this
    state text NOT NULL DEFAULT 'warming' CHECK (state IN ('warming', 'held', 'slowed', 'suspended', 'stopped', 'probing', 'paused', 'warm')),
    until timestamptz,                            -- when slowed, suspended, stopped and probing end
    good_level integer,                           -- the last level that passed a day in good health
    probes smallint NOT NULL DEFAULT 0,           -- that failed since the stop
    reason text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (domain_id, egress, provider)
);
INSERT INTO warmup_keys (domain_id, egress, provider, level, judged_on) SELECT domain_id, 'relay', '*', level, day FROM warmups;
ALTER TABLE warmups DROP COLUMN level, DROP COLUMN day;

CREATE TABLE warmup_history (                     -- every decision, by rule or by hand; append only, leaves with the domain
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id bigint NOT NULL REFERENCES domains ON DELETE CASCADE,
    egress text,                                  -- null: the whole domain
    provider text,
    at timestamptz NOT NULL,
    decision text NOT NULL,                       -- advance, stay, hold, step_back, slow, suspend, stop, probe, resume, pause, restart, preset, level, …
    level_before integer,
    level_after integer,
    reason text NOT NULL,
    numbers jsonb NOT NULL DEFAULT '{}'           -- what it was judged by
);
CREATE INDEX warmup_history_domain ON warmup_history (domain_id, id);
CREATE FUNCTION warmup_history_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the history of a warm-up is append only';
END $$;
CREATE TRIGGER warmup_history_append_only BEFORE UPDATE ON warmup_history FOR EACH ROW EXECUTE FUNCTION warmup_history_append_only();

-- ── What was taken, and what became of it ─────────────────────────────────────────────────────────────────────────────

ALTER TABLE allowances                            -- per ten minutes; provider '*' is the sum of all
    ADD COLUMN egress text NOT NULL DEFAULT 'relay',
    ADD COLUMN provider text NOT NULL DEFAULT '*',
    ADD COLUMN cold integer NOT NULL DEFAULT 0,   -- of `taken`: to people of cold tiers
    ADD COLUMN sent integer NOT NULL DEFAULT 0,
    ADD COLUMN hard integer NOT NULL DEFAULT 0,
    ADD COLUMN deferred integer NOT NULL DEFAULT 0,
    ADD COLUMN blocked integer NOT NULL DEFAULT 0,
    ADD COLUMN complaints integer NOT NULL DEFAULT 0,
    ADD COLUMN unsubscribed integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT allowances_pkey,
    ADD PRIMARY KEY (domain_id, provider, bucket, egress);
