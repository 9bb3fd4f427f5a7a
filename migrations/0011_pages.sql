-- How an owner's public pages look and what they say.

ALTER TABLE settings
    ADD COLUMN name text,                         -- the shop's, on top of every page
    ADD COLUMN website text,
    ADD COLUMN accent text CHECK (accent ~ '^#[0-9a-f]{6}$'),
    ADD COLUMN background text CHECK (background ~ '^#[0-9a-f]{6}$'),
    ADD COLUMN css text,                          -- the owner's own rules, after ours
    ADD COLUMN texts jsonb NOT NULL DEFAULT '{}', -- {language: {"section.key": sentence or its plural forms}}
    ADD COLUMN confirm_auto_post boolean NOT NULL DEFAULT false;

CREATE TABLE logos (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    hash text NOT NULL,                           -- the first hex digits of its SHA-256, in its address
    type text NOT NULL CHECK (type IN ('image/png', 'image/jpeg', 'image/webp')),
    width integer NOT NULL,
    height integer NOT NULL,
    content bytea NOT NULL CHECK (octet_length(content) <= 262144)
);

CREATE TABLE page_templates (
    name text PRIMARY KEY,                        -- a page, or 'every'
    template text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
