-- What relay providers report by webhook: who may report, and everything they said, kept for a while.

CREATE TABLE signal_sources (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,                     -- the public part of the address, unguessable
    provider text NOT NULL CHECK (provider IN ('ses', 'sendgrid', 'mailgun', 'postmark', 'brevo')),
    secret bytea,                                 -- vault blob: signing key, verification key or shared secret; null for ses
    topic_arn text,                               -- ses: the one topic that is listened to
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((provider = 'ses') = (topic_arn IS NOT NULL) AND (provider = 'ses') = (secret IS NULL))
);

CREATE TABLE signal_events (                      -- one event of a provider, whether it means anything to us or not
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id bigint NOT NULL REFERENCES signal_sources ON DELETE CASCADE,
    digest bytea NOT NULL,                        -- of the provider's own id of it, or of its content: the same event twice is one
    kind text NOT NULL,                           -- in the provider's word
    email text,
    email_key text,
    delivery_id bigint,                           -- where our Message-ID told it
    state text NOT NULL CHECK (state IN ('waiting', 'applied', 'unchanged', 'kept')),  -- kept: means nothing to us
    feedback jsonb,                               -- what it means to us, until it is applied
    at timestamptz,                               -- when it happened, as the provider says
    received_at timestamptz NOT NULL DEFAULT now(),
    raw text NOT NULL,                            -- JSON as it came
    UNIQUE (source_id, digest)
);
CREATE INDEX signal_events_source ON signal_events (source_id, id);
CREATE INDEX signal_events_waiting ON signal_events (id) WHERE state = 'waiting';
CREATE INDEX signal_events_age ON signal_events (received_at);
CREATE INDEX signal_events_email ON signal_events (email_key);

CREATE TABLE signal_tokens (                      -- tokens that were used with a signature that does not cover the body
    source_id bigint NOT NULL REFERENCES signal_sources ON DELETE CASCADE,
    token bytea NOT NULL,                         -- SHA-256
    body bytea NOT NULL,                          -- SHA-256 of the one body that came with it
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_id, token)
);
CREATE INDEX signal_tokens_age ON signal_tokens (at);

-- Who is erased leaves no address here either; the digest stays, so that the event is not taken for a new one.
CREATE FUNCTION signal_events_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE signal_events SET email = NULL, email_key = NULL, feedback = NULL, raw = '{}',
           state = CASE state WHEN 'waiting' THEN 'unchanged' ELSE state END
     WHERE email_key IN (SELECT email_key FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER signal_events_leave AFTER DELETE ON subscribers REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION signal_events_leave();
