-- What readers decide for themselves: how often, where to, and why they left.

-- Who asked for fewer letters: the fan-out looks whether there is anybody like that before it takes its turn.
CREATE INDEX subscribers_fewer ON subscribers (id) WHERE frequency <> 'all';

-- A change of address that was asked for. Nothing about the person changes before the new mailbox answers.
--
--   open ─▶ confirmed | stopped (by the old mailbox) | expired
CREATE TABLE address_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscriber_id bigint NOT NULL REFERENCES subscribers ON DELETE CASCADE,
    old_email text NOT NULL,
    old_key text NOT NULL,
    email text NOT NULL,                          -- the new one, as `subscribers` keeps it
    email_key text NOT NULL,
    domain text NOT NULL,
    from_name text NOT NULL DEFAULT '',           -- who asked, and so who says that it is done
    from_email text NOT NULL,
    locale text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    confirmed_at timestamptz,
    stopped_at timestamptz,
    message_ids bigint[] NOT NULL DEFAULT '{}'    -- its letters, to either address; they belong to no person, so a bounce of one ends nobody
);
CREATE INDEX address_changes_subscriber ON address_changes (subscriber_id, id);

-- With a change go its letters; with the person those, too, that went to an address that was theirs and is nobody's now.
CREATE FUNCTION address_changes_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM messages WHERE id IN (SELECT unnest(message_ids) FROM gone);
    DELETE FROM messages
    WHERE email_key IN (SELECT old_key FROM gone WHERE NOT EXISTS (SELECT FROM subscribers WHERE subscribers.id = gone.subscriber_id))
        AND NOT EXISTS (SELECT FROM subscribers WHERE subscribers.email_key = messages.email_key);
    RETURN NULL;
END $$;
CREATE TRIGGER address_changes_leave AFTER DELETE ON address_changes REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION address_changes_leave();

CREATE TABLE leaving_reasons (                    -- asked for after leaving, and never needed for it
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscriber_id bigint,                         -- null once the person is erased; then the comment is gone, too
    campaign_id bigint REFERENCES campaigns ON DELETE SET NULL,
    reason text NOT NULL CHECK (reason IN ('too_many', 'not_relevant', 'never_asked', 'not_expected', 'moved', 'other')),
    comment text CHECK (length(comment) <= 500),
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX leaving_reasons_subscriber ON leaving_reasons (subscriber_id) WHERE subscriber_id IS NOT NULL;
CREATE INDEX leaving_reasons_campaign ON leaving_reasons (campaign_id, id);

CREATE FUNCTION leaving_reasons_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE leaving_reasons SET subscriber_id = NULL, comment = NULL WHERE subscriber_id IN (SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER leaving_reasons_leave AFTER DELETE ON subscribers REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION leaving_reasons_leave();
