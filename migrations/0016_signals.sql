-- Who may complain without a reference of ours: the addresses providers send feedback reports from. Their DKIM signature is asked for
-- besides (signals/trust.py).
CREATE TABLE complaint_senders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    address text NOT NULL UNIQUE CHECK (address = lower(address) AND address ~ '^[^@\s]*@[^@\s]+$'),   -- @domain is any address there
    note text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO complaint_senders (address, note) VALUES
    ('feedback@arf.mail.yahoo.com', 'Yahoo and AOL, Complaint Feedback Loop'),
    ('staff@hotmail.com', 'Microsoft, Junk Mail Reporting Program'),
    ('scomp@aol.net', 'AOL, until it moved to Yahoo'),
    ('fbl-no-reply@postmaster.aol.com', 'AOL, until it moved to Yahoo'),
    ('complaints@email-abuse.amazonses.com', 'Amazon SES'),
    ('feedbackloop@comcastfbl.senderscore.net', 'Comcast, by Validity'),
    ('@feedback.senderscore.net', 'Validity, Universal Feedback Loop'),
    ('fbl@corp.mail.ru', 'Mail.ru, Postmaster');

-- A link in letters that nobody sees: who follows it is a machine (signals/verdicts.py). Its row of campaign_links has an empty url.
ALTER TABLE campaigns ADD COLUMN track_trap boolean NOT NULL DEFAULT false;
