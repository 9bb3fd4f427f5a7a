-- What keeps bots and bombers out: judged submissions that wait for the owner, what was caught, attacks, and letters a day to one mailbox.

-- ── Submissions ───────────────────────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE submissions
    ADD COLUMN verdict text NOT NULL DEFAULT 'pass' CHECK (verdict IN ('pass', 'suspect', 'bot', 'limited')),
    ADD COLUMN reasons text[] NOT NULL DEFAULT '{}',  -- why; of one that passed, what was noted all the same
    ADD COLUMN email text,                            -- only while it is held: nobody is a subscriber yet
    ADD COLUMN email_key text,
    ADD COLUMN held jsonb,                            -- everything needed to release it: entry, visitor, words
    ADD COLUMN released_at timestamptz;

UPDATE submissions SET verdict = 'bot', reasons = ARRAY[outcome], outcome = 'held' WHERE outcome IN ('honeypot', 'too_fast');

CREATE INDEX submissions_at ON submissions (at);
CREATE INDEX submissions_verdict ON submissions (verdict, id) WHERE verdict <> 'pass';
CREATE INDEX submissions_email ON submissions (email_key) WHERE email_key IS NOT NULL;
CREATE INDEX submissions_nobodys ON submissions (at) WHERE subscriber_id IS NULL AND (ip IS NOT NULL OR user_agent IS NOT NULL OR email IS NOT NULL);

-- ── What was caught ───────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE protection_counts (                  -- one row a form, UTC day and reason
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    day date NOT NULL,
    reason text NOT NULL,
    n bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (form_id, day, reason)
);

CREATE TABLE attacks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    form_id bigint REFERENCES forms ON DELETE CASCADE,  -- null: all of them, the circuit breaker
    reason text NOT NULL,                         -- unconfirmed, caught
    letters bigint NOT NULL,                      -- what was seen when it was looked at last
    confirmed bigint NOT NULL,
    caught bigint NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE UNIQUE INDEX attacks_open ON attacks (COALESCE(form_id, 0)) WHERE ended_at IS NULL;

CREATE TABLE used_proofs (                        -- a solved challenge is good for one submission
    nonce text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);

-- ── At most three letters a day ───────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE confirmation_cooldowns ADD COLUMN sent timestamptz[] NOT NULL DEFAULT '{}';  -- the letters of the last 24 hours
