-- Mail that comes in: bounces, complaints and unsubscribing letters are stored before they are acknowledged, then read.

CREATE TABLE incoming (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,                         -- smtp, api, pipe, imap
    mail_from text,                               -- the envelope's; null: there was none, empty: the null sender
    recipients text[] NOT NULL DEFAULT '{}',      -- the envelope's; a VERP address among them names the letter
    peer inet,                                    -- who handed it over by SMTP
    digest bytea NOT NULL UNIQUE,                 -- SHA-256 of envelope and content: the same mail twice is one
    raw bytea,                                    -- null once it was read and understood
    size integer NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'applied', 'ignored', 'unresolved')),
    outcome text,                                 -- in words: what it was, and what it changed
    attempts smallint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    received_at timestamptz NOT NULL DEFAULT now(),
    read_at timestamptz
);
ALTER TABLE incoming ALTER COLUMN raw SET STORAGE EXTERNAL;
CREATE INDEX incoming_waiting ON incoming (due_at, id) WHERE state = 'waiting';
CREATE INDEX incoming_state ON incoming (state, id);
CREATE INDEX incoming_age ON incoming (received_at);

CREATE TABLE mailboxes (                          -- IMAP mailboxes that are read: how far
    name text PRIMARY KEY,                        -- user@host/folder
    uidvalidity bigint NOT NULL,
    uid bigint NOT NULL,                          -- the last one stored
    at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX bounces_delivery ON bounces (delivery_id);
CREATE INDEX bounces_soft ON bounces (subscriber_id, delivery_id) WHERE class = 'soft';
