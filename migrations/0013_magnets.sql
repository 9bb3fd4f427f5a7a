-- Lead magnets and tills.

DROP TABLE form_files;                            -- never used: one row a form, its content whole

CREATE TABLE magnet_contents (                    -- the bytes, once each, however many forms give them away
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sha256 bytea UNIQUE,                          -- null while it comes in
    size bigint NOT NULL DEFAULT 0
);

CREATE TABLE magnet_slices (
    content_id bigint NOT NULL REFERENCES magnet_contents ON DELETE CASCADE,
    seq integer NOT NULL,                         -- from 0; each but the last holds 1 MiB
    data bytea NOT NULL,
    PRIMARY KEY (content_id, seq)
);
ALTER TABLE magnet_slices ALTER COLUMN data SET STORAGE EXTERNAL;  -- uncompressed, so that a part is read without the rest

CREATE TABLE magnet_files (                       -- which form gives which content away, under which name
    form_id bigint PRIMARY KEY REFERENCES forms ON DELETE CASCADE,
    content_id bigint NOT NULL REFERENCES magnet_contents,
    filename text NOT NULL,
    content_type text NOT NULL,
    uploaded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX magnet_files_content ON magnet_files (content_id);

-- A content goes with the last form that names it. One at a time, and uploads hold the same lock: a content that is about to be
-- named is not taken away.
CREATE FUNCTION magnet_contents_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('mailbase lead magnets', 0));
    DELETE FROM magnet_contents WHERE id IN (SELECT content_id FROM gone)
        AND NOT EXISTS (SELECT FROM magnet_files WHERE content_id = magnet_contents.id);
    RETURN NULL;
END $$;
CREATE TRIGGER magnet_contents_leave AFTER DELETE ON magnet_files REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION magnet_contents_leave();
CREATE TRIGGER magnet_contents_change AFTER UPDATE ON magnet_files REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION magnet_contents_leave();

CREATE TABLE magnet_downloads (                   -- who fetched what; no foreign key to people, the trigger below removes them
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    subscriber_id bigint NOT NULL,
    n integer NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (form_id, subscriber_id)
);
CREATE INDEX magnet_downloads_subscriber ON magnet_downloads (subscriber_id);

CREATE TABLE magnet_counts (                      -- the same, counted; people who were erased stay counted
    form_id bigint PRIMARY KEY REFERENCES forms ON DELETE CASCADE,
    people bigint NOT NULL,
    downloads bigint NOT NULL
);

CREATE TABLE magnet_letters (                     -- when a letter with a link went to somebody, so that it is not asked for too often
    subscriber_id bigint NOT NULL,
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX magnet_letters_subscriber ON magnet_letters (subscriber_id, at);

CREATE FUNCTION magnets_forget() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM magnet_downloads WHERE subscriber_id IN (SELECT id FROM gone);
    DELETE FROM magnet_letters WHERE subscriber_id IN (SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER magnets_forget AFTER DELETE ON subscribers REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION magnets_forget();

CREATE TABLE tills (                              -- a device at the counter that may show a form in till mode
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX tills_form ON tills (form_id, id);

CREATE TABLE till_entries (                       -- what a till has handed in lately: the same number again is the same guest
    till_id bigint NOT NULL REFERENCES tills ON DELETE CASCADE,
    entry uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (till_id, entry)
);
CREATE INDEX till_entries_at ON till_entries (at);
