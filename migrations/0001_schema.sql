-- The whole schema of the first release. Text keys are short words checked here, so that a typo cannot be stored.

-- ── The service itself ────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE secrets (
    name text PRIMARY KEY,
    wrapped bytea NOT NULL                        -- vault blob; 'canary' proves the secret key at start, 'erasure' keys the hash of the erased
);

CREATE TABLE settings (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    default_from jsonb,                           -- {name, email}
    postal_address text,
    locale text NOT NULL DEFAULT 'en',
    pending_days integer NOT NULL DEFAULT 30 CHECK (pending_days BETWEEN 1 AND 365),
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO settings DEFAULT VALUES;

CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    prefix text NOT NULL,                         -- the first characters, to recognise it by
    hash bytea NOT NULL UNIQUE,                   -- SHA-256 of the secret
    scopes text[] NOT NULL,
    system boolean NOT NULL DEFAULT false,        -- the admin key of the configuration
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    last_used_at timestamptz
);

CREATE TABLE idempotency (
    key_id bigint NOT NULL REFERENCES api_keys ON DELETE CASCADE,
    key text NOT NULL,
    fingerprint bytea NOT NULL,                   -- of method, path and body
    status integer NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    payload jsonb NOT NULL DEFAULT '{}',
    done bigint NOT NULL DEFAULT 0,
    total bigint,
    result jsonb,
    error text,
    cancel_requested boolean NOT NULL DEFAULT false,
    attempts integer NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,              -- rises with every lease: a runner that lost its lease can write no more
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX jobs_open ON jobs (id) WHERE status IN ('queued', 'running');

CREATE TABLE job_uploads (                        -- an import's file, in slices, so that any worker can read it
    job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    seq integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (job_id, seq)
);
ALTER TABLE job_uploads ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE job_rejects (                        -- the lines of rejected.csv
    job_id bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    line bigint NOT NULL,
    email text,
    reason text NOT NULL,
    PRIMARY KEY (job_id, line)
);

-- ── Audience ──────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE interests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    name text NOT NULL,
    description text,
    public boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE recipient_domains (                  -- which mailbox provider stands behind an address's domain
    domain text PRIMARY KEY,
    provider text NOT NULL,
    looked_up_at timestamptz
);
INSERT INTO recipient_domains (domain, provider) VALUES
    ('gmail.com', 'google'), ('googlemail.com', 'google'),
    ('outlook.com', 'microsoft'), ('hotmail.com', 'microsoft'), ('live.com', 'microsoft'), ('msn.com', 'microsoft'),
    ('hotmail.fr', 'microsoft'), ('hotmail.de', 'microsoft'), ('hotmail.co.uk', 'microsoft'), ('outlook.de', 'microsoft'), ('outlook.fr', 'microsoft'),
    ('yahoo.com', 'yahoo'), ('ymail.com', 'yahoo'), ('rocketmail.com', 'yahoo'), ('aol.com', 'yahoo'), ('yahoo.de', 'yahoo'), ('yahoo.fr', 'yahoo'), ('yahoo.co.uk', 'yahoo'),
    ('icloud.com', 'apple'), ('me.com', 'apple'), ('mac.com', 'apple'),
    ('gmx.de', 'gmx'), ('gmx.net', 'gmx'), ('gmx.at', 'gmx'), ('gmx.ch', 'gmx'), ('web.de', 'gmx'),
    ('t-online.de', 'telekom'),
    ('orange.fr', 'orange'), ('wanadoo.fr', 'orange'), ('free.fr', 'free'), ('laposte.net', 'laposte'),
    ('mail.ru', 'mailru'), ('inbox.ru', 'mailru'), ('list.ru', 'mailru'), ('bk.ru', 'mailru'), ('internet.ru', 'mailru'),
    ('yandex.ru', 'yandex'), ('yandex.com', 'yandex'), ('ya.ru', 'yandex'), ('yandex.by', 'yandex'), ('yandex.kz', 'yandex'),
    ('comcast.net', 'comcast'), ('qq.com', 'qq'), ('163.com', 'netease'), ('126.com', 'netease');

CREATE TABLE subscribers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL,                          -- as given, domain as A-label in lower case: this is what is written to
    email_key text NOT NULL,                      -- lower-case local part @ A-label domain: one person, one row
    domain text NOT NULL,                         -- A-label
    status text NOT NULL CHECK (status IN ('pending', 'active', 'unsubscribed', 'bounced', 'complained', 'archived')),
    attributes jsonb NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    interests bigint[] NOT NULL DEFAULT '{}',     -- ids of interests; the API speaks slugs
    locale text,
    timezone text,
    source text,
    frequency text NOT NULL DEFAULT 'all' CHECK (frequency IN ('all', 'weekly', 'monthly')),
    paused_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    unsubscribed_at timestamptz
) WITH (fillfactor = 90);
CREATE INDEX subscribers_status ON subscribers (status, id);
CREATE INDEX subscribers_labels ON subscribers USING gin (tags, interests);  -- either alone, too; one index costs an import less than two
CREATE UNIQUE INDEX subscribers_email_key ON subscribers (email_key text_pattern_ops);  -- equality and prefixes alike, compared byte by byte
CREATE INDEX subscribers_pending ON subscribers (created_at) WHERE status = 'pending';

CREATE TABLE suppressions (                       -- whom never to write to
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('email', 'domain', 'erased')),
    value text NOT NULL UNIQUE,                   -- email_key, A-label domain, or the keyed hash in hex of an erased address
    reason text NOT NULL CHECK (reason IN ('hard_bounce', 'soft_bounces', 'complaint', 'manual', 'erased')),
    note text,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Consents and events leave with the person by a trigger on subscribers, not by a foreign key: its check a row is what an import
-- of a million people would mostly wait for. Who writes them holds the person's row (FOR KEY SHARE), or has just made it.
CREATE TABLE consents (                           -- append only; leaves with the person
    id bigint GENERATED ALWAYS AS IDENTITY,
    subscriber_id bigint NOT NULL,
    act text NOT NULL DEFAULT 'given' CHECK (act IN ('given', 'confirmed', 'withdrawn')),
    purpose text NOT NULL,
    text text NOT NULL,                           -- the exact words
    text_hash bytea NOT NULL,                     -- SHA-256 of the words and the policy URL: the version
    policy_url text,
    source text,
    form_id bigint,
    confirmation_id bigint,                       -- the letter that was answered, where the act is 'confirmed'
    page text,
    ip inet,
    user_agent text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subscriber_id, id)
);
CREATE FUNCTION consents_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'consents are append only';
END $$;
CREATE TRIGGER consents_append_only BEFORE UPDATE ON consents FOR EACH ROW EXECUTE FUNCTION consents_append_only();

CREATE TABLE engaged (                            -- when a person last opened or clicked; apart from subscribers, so that no import makes a pixel wait
    subscriber_id bigint PRIMARY KEY,
    at timestamptz                                -- null: what there was turned out to be a machine's
) WITH (fillfactor = 70);

CREATE TABLE subscriber_events (                  -- the timeline; opens and clicks live in `signals` and are merged in
    id bigint GENERATED ALWAYS AS IDENTITY,
    subscriber_id bigint NOT NULL,
    kind text NOT NULL,                           -- created, imported, submitted, confirmed, unsubscribed, preferences, bounced, complained, …
    at timestamptz NOT NULL DEFAULT now(),
    campaign_id bigint,
    delivery_id bigint,
    form_id bigint,
    data jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (subscriber_id, id)
);

CREATE FUNCTION subscribers_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM consents WHERE subscriber_id IN (SELECT id FROM gone);
    DELETE FROM subscriber_events WHERE subscriber_id IN (SELECT id FROM gone);
    DELETE FROM engaged WHERE subscriber_id IN (SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER subscribers_leave AFTER DELETE ON subscribers REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION subscribers_leave();

-- ── Forms and opt-in ──────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE forms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,                     -- the public name, unguessable
    name text NOT NULL,
    definition jsonb NOT NULL,                    -- fields, interests (ids), consents, from, texts, … as in the contract
    allowed_origins text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE form_files (                         -- lead magnets
    form_id bigint PRIMARY KEY REFERENCES forms ON DELETE CASCADE,
    filename text NOT NULL,
    content_type text NOT NULL,
    sha256 bytea NOT NULL,
    content bytea NOT NULL
);

CREATE TABLE submissions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    subscriber_id bigint REFERENCES subscribers ON DELETE SET NULL,
    outcome text NOT NULL,                        -- accepted, cooldown, honeypot, too_fast, suppressed, … (the visitor sees the same answer)
    fields jsonb NOT NULL DEFAULT '{}',
    interests bigint[] NOT NULL DEFAULT '{}',
    page text,
    ip inet,
    user_agent text,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX submissions_form ON submissions (form_id, at);
CREATE INDEX submissions_subscriber ON submissions (subscriber_id);

CREATE TABLE form_counts (                        -- one row a form, day, page and slot; views, starts, submits, confirmed
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    day date NOT NULL,
    page text NOT NULL DEFAULT '',
    what text NOT NULL CHECK (what IN ('view', 'start', 'submit', 'confirmed')),
    n bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (form_id, day, page, what)
);

CREATE TABLE confirmations (                      -- one double opt-in asked for; its letter carries the token /c/…
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscriber_id bigint NOT NULL REFERENCES subscribers ON DELETE CASCADE,
    form_id bigint REFERENCES forms ON DELETE SET NULL,
    interests bigint[] NOT NULL DEFAULT '{}',     -- what is confirmed: everything chosen since the last confirmation
    evidence jsonb NOT NULL DEFAULT '{}',         -- consents, fields, page, ip … as submitted; written to the ledger when confirmed
    locale text,
    message_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    confirmed_at timestamptz
);
CREATE INDEX confirmations_subscriber ON confirmations (subscriber_id, id);

CREATE TABLE confirmation_cooldowns (             -- one letter an address, ten minutes, doubling; survives erasure only as a hash
    address bytea PRIMARY KEY,                    -- keyed hash of email_key
    letters integer NOT NULL,
    last_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL
);

-- ── Sending ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE domains (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,                    -- A-label, lower case
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'verified', 'failing')),
    signing boolean NOT NULL DEFAULT true,        -- false: the relay signs
    findings jsonb NOT NULL DEFAULT '[]',         -- what the last verification saw, per record
    verp boolean NOT NULL DEFAULT false,          -- the bounce MX was seen: envelope senders are VERP
    provider_caps jsonb NOT NULL DEFAULT '{}',    -- {provider: letters a day}, absolute ceilings
    created_at timestamptz NOT NULL DEFAULT now(),
    verified_at timestamptz,
    checked_at timestamptz
);

CREATE TABLE dkim_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain_id bigint NOT NULL REFERENCES domains ON DELETE CASCADE,
    selector text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'next', 'retiring')),
    private_key bytea NOT NULL,                   -- vault blob of PKCS#8 DER
    public_key text NOT NULL,                     -- base64 of SubjectPublicKeyInfo, the p= of the record
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (domain_id, selector)
);
CREATE UNIQUE INDEX dkim_keys_one ON dkim_keys (domain_id, state) WHERE state IN ('active', 'next');

CREATE TABLE warmups (                            -- one a domain: the preset and how far it has come
    domain_id bigint PRIMARY KEY REFERENCES domains ON DELETE CASCADE,
    preset text CHECK (preset IN ('cautious', 'standard', 'fast', 'custom', 'none')),  -- null: cautious, or none while letters go to the outbox
    schedule integer[],
    level integer NOT NULL DEFAULT 1,             -- index into the schedule; warm-up days, not calendar days
    day date,                                     -- the UTC day the level was last judged for
    state text NOT NULL DEFAULT 'warming' CHECK (state IN ('warming', 'held', 'paused', 'warm')),
    reason text
);

CREATE TABLE allowances (                         -- letters taken per ten minutes; a cap binds the sum over any sliding 24 hours
    domain_id bigint NOT NULL REFERENCES domains ON DELETE CASCADE,
    bucket timestamptz NOT NULL,
    taken integer NOT NULL,
    PRIMARY KEY (domain_id, bucket)
);

CREATE TABLE egress (                             -- what the relay last said when it refused us, not a letter
    name text PRIMARY KEY,                        -- 'relay' or 'outbox'
    stopped_until timestamptz,
    failures integer NOT NULL DEFAULT 0,
    reason text,
    at timestamptz
);

CREATE TABLE campaigns (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'scheduled', 'sending', 'paused', 'sent', 'cancelled')),
    paused_from text CHECK (paused_from IN ('scheduled', 'sending')),
    domain_id bigint NOT NULL REFERENCES domains,
    from_name text NOT NULL DEFAULT '',
    from_email text NOT NULL,
    reply_to text,
    subject text NOT NULL,
    preheader text,
    mjml text,
    html text,
    text text,
    audience jsonb NOT NULL,                      -- interests by id, so that a renamed slug changes nothing
    headers jsonb NOT NULL DEFAULT '{}',
    send_until timestamptz,
    track_opens boolean NOT NULL DEFAULT true,
    track_clicks boolean NOT NULL DEFAULT true,
    utm jsonb,
    on_crash text NOT NULL DEFAULT 'at_most_once' CHECK (on_crash IN ('at_most_once', 'at_least_once')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    scheduled_at timestamptz,                     -- when it is due
    compiled bytea,                               -- the frozen content (letters.compile), from `send` on
    audience_upper_id bigint,                     -- the frozen audience: subscribers up to this id …
    audience_at timestamptz,                      -- … as of this moment
    fan_out_after bigint NOT NULL DEFAULT 0,      -- the last subscriber id looked at; deliveries exist up to here
    fanned_out boolean NOT NULL DEFAULT false,
    expected bigint,                              -- audience counted at launch, for progress until the fan-out is done
    started_at timestamptz,
    finished_at timestamptz                       -- nothing is left to do: every delivery is final
);
CREATE INDEX campaigns_open ON campaigns (id) WHERE status <> 'draft' AND finished_at IS NULL;

CREATE TABLE campaign_links (
    campaign_id bigint NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    n integer NOT NULL,                           -- as in /l/{n}/…, from 1
    url text NOT NULL,                            -- may hold expressions, filled at the click
    PRIMARY KEY (campaign_id, n)
);

CREATE TABLE messages (                           -- transactional letters and confirmations, rendered when accepted
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('transactional', 'confirmation', 'test')),
    domain_id bigint REFERENCES domains,
    subscriber_id bigint REFERENCES subscribers ON DELETE SET NULL,
    from_name text NOT NULL DEFAULT '',
    from_email text NOT NULL,
    reply_to text,
    email text NOT NULL,
    email_key text NOT NULL,
    subject text NOT NULL,
    html text,
    text text,
    headers jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX messages_email ON messages (email_key);            -- erasure finds a person's letters
CREATE INDEX messages_subscriber ON messages (subscriber_id) WHERE subscriber_id IS NOT NULL;

CREATE TABLE message_attachments (
    message_id bigint NOT NULL REFERENCES messages ON DELETE CASCADE,
    seq integer NOT NULL,
    filename text NOT NULL,
    content_type text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (message_id, seq)
);

CREATE TYPE delivery_state AS ENUM ('queued', 'leased', 'handing_over', 'sent', 'deferred', 'failed', 'bounced', 'unknown', 'skipped');

-- A delivery is one letter's fate. Exactly one of campaign_id and message_id is set.
--
--   queued ─▶ leased ─▶ handing_over ─▶ sent | bounced | failed | unknown
--     ▲          │            │ ├──────▶ deferred ─▶ (due again) leased
--     └──────────┴────────────┘ └──────▶ skipped (also straight from queued, leased, deferred)
CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id bigint REFERENCES campaigns,
    message_id bigint REFERENCES messages ON DELETE CASCADE,
    subscriber_id bigint,                         -- null once the person is erased
    domain_id bigint,
    state delivery_state NOT NULL DEFAULT 'queued',
    attempts smallint NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,              -- the lease that holds it; a frozen worker's is no longer this one
    provider text NOT NULL DEFAULT 'other',
    reason text,                                  -- of skipped, failed, bounced
    bounce_class text CHECK (bounce_class IN ('hard', 'soft', 'block')),
    last_reply text,
    due_at timestamptz NOT NULL DEFAULT now(),    -- next attempt
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    CHECK ((campaign_id IS NULL) <> (message_id IS NULL)),
    UNIQUE (campaign_id, subscriber_id)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX deliveries_due ON deliveries (campaign_id, due_at, id) WHERE state IN ('queued', 'deferred');
CREATE INDEX deliveries_due_messages ON deliveries (due_at, id) WHERE state IN ('queued', 'deferred') AND message_id IS NOT NULL;
CREATE INDEX deliveries_leased ON deliveries (lease_until) WHERE state IN ('leased', 'handing_over');
CREATE INDEX deliveries_subscriber ON deliveries (subscriber_id, id);
CREATE INDEX deliveries_message ON deliveries (message_id) WHERE message_id IS NOT NULL;

CREATE SEQUENCE fences;                           -- one number a lease batch

-- ── Signals ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE counters (                           -- everything statistics read; changed in the transaction of the rows they count
    campaign_id bigint NOT NULL REFERENCES campaigns ON DELETE CASCADE,
    key text NOT NULL,                            -- e.g. delivery.sent, bounce.hard, provider.google.sent, open.total, link.3.clicks, hour.1769860800.opens
    slot smallint NOT NULL,                       -- hot rows are spread; always written in (campaign, key, slot) order
    n bigint NOT NULL,
    PRIMARY KEY (campaign_id, key, slot)
) WITH (fillfactor = 50);

CREATE TABLE signals (                            -- every open and click, raw; verdicts may be revised
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL,
    campaign_id bigint NOT NULL,
    subscriber_id bigint,
    kind text NOT NULL CHECK (kind IN ('open', 'click')),
    link integer,                                 -- n of campaign_links
    verdict text NOT NULL CHECK (verdict IN ('human', 'machine', 'unknown')),
    reason text,                                  -- why a machine
    ip inet,                                      -- shortened to /24 or /48 after 30 days
    user_agent text,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX signals_clicks ON signals (delivery_id, at) WHERE kind = 'click';
CREATE INDEX signals_subscriber ON signals (subscriber_id, id);
CREATE INDEX signals_age ON signals USING brin (at);

CREATE TABLE engagements (                        -- one letter's signals, counted by verdict: what makes an open or click unique
    delivery_id bigint NOT NULL,
    what smallint NOT NULL,                       -- 0 the pixel, -1 any link, n the link n
    total integer NOT NULL,
    human integer NOT NULL,
    machine integer NOT NULL,                     -- the rest of total is unknown
    PRIMARY KEY (delivery_id, what)
) WITH (fillfactor = 85);

CREATE TABLE bounces (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL,
    campaign_id bigint,
    subscriber_id bigint,
    email text,
    class text NOT NULL CHECK (class IN ('hard', 'soft', 'block')),
    reason text NOT NULL,
    status text,
    reply text,
    reporting_mta text,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX bounces_campaign ON bounces (campaign_id, id);
