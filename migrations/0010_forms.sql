-- Forms: the wordings of a form's consents, counts by page, source, mode and trigger, and from where a submission came.

CREATE TABLE form_consent_versions (              -- every wording a form has shown; the ledger keeps its own copy of the words
    form_id bigint NOT NULL REFERENCES forms ON DELETE CASCADE,
    purpose text NOT NULL,
    hash bytea NOT NULL,                          -- SHA-256 of the words and the policy URL, as in consents.text_hash
    text text NOT NULL,
    policy_url text,
    since timestamptz NOT NULL DEFAULT now(),     -- when it was first shown
    until timestamptz,                            -- when other words took its place; null: it is the one shown now
    PRIMARY KEY (form_id, purpose, hash)
);

INSERT INTO form_consent_versions (form_id, purpose, hash, text, policy_url, since)
SELECT form.id, consent ->> 'purpose',
    sha256(convert_to(consent ->> 'text', 'UTF8') || '\x00'::bytea || convert_to(COALESCE(consent ->> 'policy_url', ''), 'UTF8')),
    consent ->> 'text', consent ->> 'policy_url', form.updated_at
FROM forms AS form, jsonb_array_elements(COALESCE(form.definition -> 'consents', '[]')) AS consent
ON CONFLICT DO NOTHING;

CREATE INDEX consents_form ON consents (form_id, id) WHERE form_id IS NOT NULL;      -- consents.csv

ALTER TABLE submissions ADD COLUMN whence jsonb NOT NULL DEFAULT '{}';               -- source, mode, trigger, utm_…
ALTER TABLE submissions ADD COLUMN more_at timestamptz;                              -- when the second step was answered

ALTER TABLE form_counts RENAME COLUMN page TO value;
ALTER TABLE form_counts ADD COLUMN dimension text NOT NULL DEFAULT 'page' CHECK (dimension IN ('page', 'source', 'mode', 'trigger'));
ALTER TABLE form_counts ADD COLUMN slot smallint NOT NULL DEFAULT 0;                 -- one a connection, so that no two wait for one row
ALTER TABLE form_counts DROP CONSTRAINT form_counts_pkey;
ALTER TABLE form_counts ADD PRIMARY KEY (form_id, day, dimension, value, what, slot);
CREATE INDEX form_counts_slots ON form_counts (day) WHERE slot <> 0;                 -- what is folded once its day is over
ALTER TABLE form_counts SET (fillfactor = 50);                                       -- counters move in place
