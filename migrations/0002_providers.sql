-- Mailbox providers, what they take and what their refusals mean, the domains behind addresses, and relays with names.
-- The numbers are data: everything here may be changed through the API.

-- ── Providers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE providers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$'),
    mx_suffixes text[] NOT NULL DEFAULT '{}',     -- '.google.com': a mail host that ends so is theirs; the longest one wins
    connections integer CHECK (connections > 0),  -- each null: as the row 'other' has it
    letters_per_connection integer CHECK (letters_per_connection > 0),
    letters_per_minute double precision CHECK (letters_per_minute > 0),
    connections_per_minute double precision CHECK (connections_per_minute > 0),
    tls text CHECK (tls IN ('required', 'opportunistic')),
    verify_tls boolean,                           -- whether a certificate must be right where TLS is required
    warmup_multiplier double precision CHECK (warmup_multiplier > 0 AND warmup_multiplier <= 1),  -- of the day's total cap
    warmup_least integer CHECK (warmup_least >= 0),                                               -- and never below this many letters
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO providers (name, mx_suffixes, connections, letters_per_connection, letters_per_minute, connections_per_minute, tls, verify_tls, warmup_multiplier, warmup_least) VALUES
    ('other', '{}', 10, 100, 6000, 100, 'opportunistic', false, 0.05, 20),
    ('google', '{.google.com,.googlemail.com}', 5, 50, NULL, NULL, 'required', true, 1, 0),
    ('microsoft', '{.olc.protection.outlook.com}', 5, 50, NULL, NULL, NULL, NULL, 0.5, 0),
    ('microsoft365', '{.mail.protection.outlook.com,.mx.microsoft}', 5, 50, NULL, NULL, NULL, NULL, 0.5, 0),
    ('yahoo', '{.yahoodns.net}', NULL, 20, NULL, NULL, NULL, NULL, 0.35, 0),
    ('yahoo_japan', '{.yahoo.co.jp}', 2, 20, 600, NULL, NULL, NULL, NULL, NULL),
    ('apple', '{.icloud.com}', 10, 5, NULL, NULL, NULL, NULL, 0.25, 0),
    ('gmx', '{.gmx.net,.web.de}', 4, 20, NULL, NULL, 'required', true, 0.5, 0),
    ('telekom', '{.t-online.de}', 2, 20, NULL, NULL, NULL, NULL, 0.5, 0),
    ('orange', '{.orange.fr}', 2, 100, NULL, NULL, 'required', true, 0.35, 0),
    ('free', '{.free.fr}', 2, 20, NULL, NULL, NULL, NULL, 0.35, 0),
    ('laposte', '{.laposte.net}', 2, 20, NULL, NULL, NULL, NULL, 0.35, 0),
    ('mailru', '{.mail.ru}', 3, 20, NULL, NULL, NULL, NULL, 0.35, 0),
    ('yandex', '{.yandex.ru,.yandex.net}', 3, 20, NULL, NULL, NULL, NULL, 0.35, 0),
    ('comcast', '{.comcast.net}', 25, 1000, NULL, NULL, 'required', true, 0.5, 0),
    ('mailcom', '{.mail.com}', NULL, 100, NULL, NULL, NULL, NULL, NULL, NULL),
    ('mimecast', '{.mimecast.com,.mimecast.co.za,.mimecast-offshore.com}', 10, 100, NULL, NULL, NULL, NULL, 0.5, 0),
    ('proofpoint', '{.pphosted.com,.ppe-hosted.com}', 3, 20, NULL, NULL, NULL, NULL, 0.5, 0),
    ('barracuda', '{.barracudanetworks.com}', 10, 15, NULL, NULL, 'required', true, 0.5, 0),
    ('netvigator', '{.netvigator.com}', 5, 10, NULL, NULL, 'required', true, NULL, NULL),
    ('kpn', '{.kpnmail.nl}', 10, 10, NULL, NULL, 'required', true, NULL, NULL),
    ('qq', '{.qq.com}', 4, 8, NULL, NULL, 'required', true, NULL, NULL),
    ('netease', '{.netease.com}', 4, 7, NULL, NULL, 'required', false, NULL, NULL),
    ('zoho', '{.zoho.com,.zoho.eu,.zoho.in}', 3, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('seznam', '{.seznam.cz}', 3, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('wp', '{.wp.pl}', 2, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('o2pl', '{.o2.pl,.tlen.pl}', 2, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('interia', '{.interia.pl}', 2, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('libero', '{.libero.it}', 2, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('naver', '{.naver.com}', 2, 20, NULL, NULL, NULL, NULL, NULL, NULL),
    ('daum', '{.daum.net,.hanmail.net,.kakao.com}', 2, 20, NULL, NULL, NULL, NULL, NULL, NULL);

-- ── Which provider stands behind a domain ─────────────────────────────────────────────────────────────────────────────

ALTER TABLE recipient_domains
    ADD COLUMN mx text[] NOT NULL DEFAULT '{}',       -- the mail hosts as last seen, best first
    ADD COLUMN due_at timestamptz,                    -- next look; null: known by heart, and nobody there is written to yet
    ADD COLUMN failures smallint NOT NULL DEFAULT 0;  -- looks in a row that no server answered
CREATE INDEX recipient_domains_due ON recipient_domains (due_at) WHERE due_at IS NOT NULL;

-- Domains of addresses as they come in, to be looked up. No key and nothing unique: whoever adds a person must never wait for an
-- import that has the same new domain in its hands.
CREATE TABLE arrived_domains (
    domain text NOT NULL
);

CREATE FUNCTION subscribers_arrive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO arrived_domains (domain)
    SELECT arrived.domain FROM (SELECT DISTINCT domain FROM added) AS arrived
    LEFT JOIN recipient_domains AS known ON known.domain = arrived.domain
    WHERE known.due_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER subscribers_arrive AFTER INSERT ON subscribers REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION subscribers_arrive();
INSERT INTO arrived_domains (domain) SELECT DISTINCT domain FROM subscribers;

-- ── Rules on replies, and what they lead to ───────────────────────────────────────────────────────────────────────────

CREATE TABLE reply_rules (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    providers text[] NOT NULL DEFAULT '{}',       -- whose replies; empty: anybody's, unless a rule of their own matches
    pattern text NOT NULL,                        -- of PostgreSQL, case ignored, over "421 4.7.0 the reply's text"
    threshold integer NOT NULL CHECK (threshold BETWEEN 1 AND 1000000),      -- so many such replies …
    window_seconds integer NOT NULL CHECK (window_seconds BETWEEN 60 AND 86400),  -- … within this time
    suspend boolean NOT NULL DEFAULT false,
    connections integer CHECK (connections > 0),
    letters_per_connection integer CHECK (letters_per_connection > 0),
    letters_per_minute double precision CHECK (letters_per_minute > 0),
    connections_per_minute double precision CHECK (connections_per_minute > 0),
    stop_domain boolean NOT NULL DEFAULT false,   -- the sender's set-up is wrong: no more campaigns of that domain until a person says so
    duration_seconds integer NOT NULL CHECK (duration_seconds BETWEEN 60 AND 604800),
    advice text NOT NULL,                         -- what it means, and what to do about it, in words
    sample text NOT NULL,                         -- a reply the pattern matches
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (suspend OR stop_domain OR num_nonnulls(connections, letters_per_connection, letters_per_minute, connections_per_minute) > 0)
);

CREATE TABLE reply_counts (                       -- replies that matched a rule, by minute; gone once the rule acted
    rule_id bigint NOT NULL REFERENCES reply_rules ON DELETE CASCADE,
    provider text NOT NULL,
    scope text NOT NULL,                          -- the way out; 'domain:7' where the rule stops a domain
    minute timestamptz NOT NULL,
    n integer NOT NULL,
    PRIMARY KEY (rule_id, provider, scope, minute)
);

CREATE TABLE provider_overrides (                 -- what is in force instead of the table, until it ends by itself
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    egress text NOT NULL DEFAULT '*',             -- one way out, or '*': all of them
    rule_id bigint REFERENCES reply_rules ON DELETE CASCADE,  -- null: set by hand
    suspend boolean NOT NULL DEFAULT false,
    connections integer CHECK (connections > 0),
    letters_per_connection integer CHECK (letters_per_connection > 0),
    letters_per_minute double precision CHECK (letters_per_minute > 0),
    connections_per_minute double precision CHECK (connections_per_minute > 0),
    reason text NOT NULL,
    reply text,                                   -- the one that tipped it
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    UNIQUE (rule_id, provider, egress)
);
CREATE INDEX provider_overrides_end ON provider_overrides (expires_at);

CREATE FUNCTION providers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mailbase_providers', '');
    RETURN NULL;
END $$;
CREATE TRIGGER providers_changed AFTER INSERT OR UPDATE OR DELETE ON providers FOR EACH STATEMENT EXECUTE FUNCTION providers_changed();
CREATE TRIGGER provider_overrides_changed AFTER INSERT OR UPDATE OR DELETE ON provider_overrides FOR EACH STATEMENT EXECUTE FUNCTION providers_changed();

-- A domain whose set-up a provider refused: its campaigns wait until the owner has put it right.
ALTER TABLE domains ADD COLUMN stopped_reason text, ADD COLUMN stopped_at timestamptz;

-- Since when a letter has been refused for now: refusals that count no attempt must come to an end as well.
ALTER TABLE deliveries ADD COLUMN refused_since timestamptz;

-- ── Relays with names ─────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE relays (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$' AND name NOT IN ('relay', 'outbox', 'mx')),
    host text NOT NULL,
    port integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    username text,
    password bytea,                               -- vault blob
    tls text NOT NULL CHECK (tls IN ('starttls', 'implicit', 'none')),
    connections integer NOT NULL DEFAULT 10 CHECK (connections BETWEEN 1 AND 1000),
    weight integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0 AND 1000),  -- its share of the letters; 0: only when no other is left
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION relays_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mailbase_relays', '');
    RETURN NULL;
END $$;
CREATE TRIGGER relays_changed AFTER INSERT OR UPDATE OR DELETE ON relays FOR EACH STATEMENT EXECUTE FUNCTION relays_changed();

-- ── The rules of the first day ────────────────────────────────────────────────────────────────────────────────────────

INSERT INTO reply_rules (providers, pattern, threshold, window_seconds, suspend, connections, letters_per_connection, letters_per_minute, connections_per_minute, stop_domain, duration_seconds, advice, sample) VALUES
    -- anybody
    ('{}', 'messages from \S+ temporarily deferred', 1, 3600, false, 1, NULL, 1, NULL, false, 5400, 'They have had complaints or too much at once from this address; sending goes on slowly.', '421 4.7.1 Messages from 192.0.2.25 temporarily deferred due to user complaints'),
    ('{}', 'all messages from \S+ will be permanently deferred', 1, 3600, false, 1, NULL, 1, NULL, false, 5400, 'They will take nothing more from this address for now; see their postmaster page.', '421 4.7.1 All messages from 192.0.2.25 will be permanently deferred; retrying will NOT succeed'),
    ('{}', 'temporarily rate limited due to IP reputation', 1, 3600, false, 1, NULL, 1, NULL, false, 5400, 'The reputation of the sending address is low; sending goes on slowly.', '451 4.7.650 The mail server [192.0.2.25] has been temporarily rate limited due to IP reputation. (S775)'),
    ('{}', 'messages from \S+ weren.t sent', 1, 3600, false, 1, NULL, 1, NULL, false, 5400, 'The sending address is on their block list; ask them to remove it.', '550 5.7.1 Unfortunately, messages from [192.0.2.25] weren''t sent. Please contact your Internet service provider (S3140).'),
    ('{}', 'server busy\. please try again later from', 1, 3600, false, 1, NULL, 1, NULL, false, 5400, 'They are slowing this address down; sending goes on slowly.', '451 4.7.500 Server busy. Please try again later from [192.0.2.25]. (S77719)'),
    ('{}', '^4\d\d (?!4\.2\.1).*\m(too many (messages|mails|emails|connections|sessions)|(rate|message|sending|delivery|hourly|connection) ?limit|throttl|sending (mail )?too (fast|quickly))', 5, 3600, false, 2, NULL, 30, NULL, false, 900, 'More at once than they take; sending goes on more slowly for a while.', '421 4.7.0 Too many messages from your address, slow down'),
    ('{}', '[45]\.7\.26\M', 3, 3600, false, NULL, NULL, NULL, NULL, true, 86400, 'SPF and DKIM both failed there (RFC 7372). Look at the domain''s DNS records, verify the domain, then resume it.', '550 5.7.26 Multiple authentication checks failed for this message'),
    -- Google
    ('{google}', 'our system has detected that this message', 5, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'Google takes the content or the links for unwanted mail.', '421 4.7.0 [192.0.2.25 15] Our system has detected that this message is suspicious due to the nature of the content and/or the links within.'),
    ('{google}', 'an unusual rate', 2, 3600, false, NULL, NULL, 10, NULL, false, 1800, 'More mail at once than Google is used to from this address or domain.', '421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from your IP address.'),
    ('{google}', '[45]\.7\.(26|27|30|32|40)\M', 1, 3600, false, NULL, NULL, NULL, NULL, true, 86400, 'Google could not authenticate the mail: 26 neither SPF nor DKIM, 27 SPF, 30 DKIM, 32 neither aligned with the From domain, 40 no DMARC record. Put the DNS records right, verify the domain, then resume it.', '550 5.7.26 Your email has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate with either SPF or DKIM.'),
    ('{google}', '[45]\.7\.(23|25)\M', 1, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'The sending address has no reverse DNS name that leads back to it. Ask the host of the server for a PTR record.', '550 5.7.25 [192.0.2.25] The IP address sending this message does not have a PTR record setup'),
    ('{google}', '[45]\.7\.29\M', 2, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'Google asks for TLS and did not get it. Look at the way out: it must offer STARTTLS.', '421 4.7.29 Your email has been rate limited because this message was not sent over a TLS connection.'),
    -- Yahoo and AOL
    ('{yahoo}', '\[TS02\]', 3, 3600, false, NULL, NULL, 1, NULL, false, 1800, 'Yahoo defers this address: complaints or unusual traffic.', '421 4.7.1 [TS02] Messages from 192.0.2.25 temporarily deferred due to user complaints'),
    ('{yahoo}', '\[TS03\]', 3, 3600, false, NULL, NULL, 10, NULL, false, 1800, 'Yahoo defers this address: complaints, for longer than before.', '421 4.7.1 [TS03] All messages from 192.0.2.25 will be permanently deferred'),
    ('{yahoo}', 'TSS04|IPTS04', 2, 3600, true, NULL, NULL, NULL, NULL, false, 7200, 'Yahoo: unexpected volume or user complaints.', '421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints'),
    ('{yahoo}', 'TSS05|IPTS05', 2, 3600, true, NULL, NULL, NULL, NULL, false, 14400, 'Yahoo: unexpected volume or user complaints, more seriously.', '421 4.7.0 [TSS05] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints'),
    ('{yahoo}', '553 5\.7\.1 \[BL', 5, 3600, true, NULL, NULL, NULL, NULL, false, 7200, 'The sending address is on a block list that Yahoo uses.', '553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.25, because the ip is in Spamhaus''s list'),
    ('{yahoo}', 'max message per connection', 3, 3600, false, NULL, NULL, 10, NULL, false, 3600, 'Yahoo takes fewer letters in one connection than were sent.', '421 Max message per connection reached, closing transmission channel'),
    ('{yahoo}', 'sender is unauthenticated', 1, 3600, false, NULL, NULL, NULL, NULL, true, 86400, 'Yahoo asks for SPF or DKIM that passes. Put the DNS records right, verify the domain, then resume it.', '550 5.7.9 This mail has been blocked because the sender is unauthenticated. Yahoo requires all senders to authenticate with either SPF or DKIM.'),
    -- Microsoft, both kinds
    ('{microsoft,microsoft365}', 'block list', 5, 3600, true, NULL, NULL, NULL, NULL, false, 7200, 'The sending address is on Microsoft''s block list; ask for its removal on their sender support form.', '550 5.7.1 Unfortunately, messages from [192.0.2.25] weren''t sent. Part of their network is on our block list (S3140).'),
    ('{microsoft,microsoft365}', 'access denied, please try again later', 5, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'Microsoft refuses this address for now.', '451 4.7.500 Access denied, please try again later [192.0.2.25]'),
    ('{microsoft,microsoft365}', 'server busy', 3, 3600, false, NULL, NULL, 1, NULL, false, 900, 'Microsoft slows this address down.', '451 4.7.500 Server busy. Please try again later from [192.0.2.25]. (S77719)'),
    ('{microsoft,microsoft365}', 'server busy', 5, 3600, true, NULL, NULL, NULL, NULL, false, 1800, 'Microsoft keeps slowing this address down.', '451 4.7.500 Server busy. Please try again later from [192.0.2.25]. (AS77712)'),
    ('{microsoft,microsoft365}', 'temporarily rate limited', 3, 3600, true, NULL, NULL, NULL, NULL, false, 1800, 'Microsoft limits this address because of its reputation.', '451 4.7.650 The mail server [192.0.2.25] has been temporarily rate limited due to IP reputation. For e-mail delivery information see https://postmaster.live.com (S775)'),
    ('{microsoft,microsoft365}', 'exceeded the maximum number of connections|IB007', 2, 3600, false, 1, NULL, NULL, NULL, false, 3600, 'More connections at once than Microsoft takes.', '421 4.3.2 The maximum number of concurrent server connections has exceeded a limit; you have exceeded the maximum number of connections (IB007)'),
    ('{microsoft,microsoft365}', 'exceeded (the )?maximum number of messages per connection', 2, 3600, false, NULL, 2, NULL, NULL, false, 3600, 'More letters in one connection than Microsoft takes.', '421 4.4.2 Connection dropped: exceeded maximum number of messages per connection'),
    ('{microsoft,microsoft365}', 'temporary server error', 5, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'Something is wrong on their side.', '451 4.7.0 Temporary server error. Please try again later. PRX4'),
    ('{microsoft,microsoft365}', '5\.7\.(606|511)\M', 3, 3600, true, NULL, NULL, NULL, NULL, false, 14400, 'The sending address is banned at Microsoft; ask for its removal at https://sender.office.com.', '550 5.7.606 Access denied, banned sending IP [192.0.2.25]. To request removal from this list please visit https://sender.office.com/'),
    ('{microsoft,microsoft365}', '5\.7\.515\M', 1, 3600, false, NULL, NULL, NULL, NULL, true, 86400, 'Microsoft asks SPF and DKIM to pass, and DMARC with the From domain aligned. Put the DNS records right, verify the domain, then resume it.', '550 5.7.515 Access denied, sending domain news.example does not meet the required authentication level.'),
    ('{microsoft,microsoft365}', '5\.7\.509\M', 3, 3600, false, NULL, NULL, NULL, NULL, true, 86400, 'The mail fails DMARC at Microsoft, and the domain''s own policy asks for it to be refused. Put SPF or DKIM right, verify the domain, then resume it.', '550 5.7.509 Access denied, sending domain news.example does not pass DMARC verification and has a DMARC policy of reject.'),
    -- Apple
    ('{apple}', 'service (temporarily )?unavailable.{0,5}try again later', 5, 3600, true, NULL, NULL, NULL, NULL, false, 900, 'Apple takes nothing from this address for a moment.', '421 4.7.0 Service unavailable - try again later'),
    ('{apple}', '\[BS02\]', 5, 3600, true, NULL, NULL, NULL, NULL, false, 900, 'Apple defers mail from this address.', '451 4.7.1 [BS02] Message temporarily deferred'),
    ('{apple}', '\[HCM1\]', 3, 3600, true, NULL, NULL, NULL, NULL, false, 900, 'Apple defers mail of this kind.', '421 4.7.1 [HCM1] Message temporarily deferred'),
    ('{apple}', 'spamhaus dbl', 3, 3600, true, NULL, NULL, NULL, NULL, false, 14400, 'A domain in the letter is on the Spamhaus domain list; look it up there.', '550 5.7.1 Message rejected: a domain in it is listed on the Spamhaus DBL'),
    -- GMX and web.de
    ('{gmx}', 'too many connections', 3, 3600, false, 1, NULL, NULL, NULL, false, 1800, 'More connections at once than they take.', '421 gmx.net (mxgmx016) Nemesis ESMTP Service not available. Too many connections.'),
    ('{gmx}', '^4.*reject due to policy restrictions', 5, 3600, false, NULL, NULL, 1, NULL, false, 3600, 'GMX or web.de takes the mail for unwanted; see their postmaster page.', '421 Reject due to policy restrictions. For explanation visit https://postmaster.gmx.net/en/error-messages'),
    ('{gmx}', '^554.*reject due to policy restrictions', 5, 3600, true, NULL, NULL, NULL, NULL, false, 7200, 'GMX or web.de refuses the mail as unwanted; see their postmaster page.', '554 Transaction failed Reject due to policy restrictions. For explanation visit https://postmaster.web.de/en/case'),
    ('{gmx}', 'policy violations', 5, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'GMX or web.de refuses this address because of earlier mail.', '550 Requested action not taken: mailbox unavailable, IP address blocked because of policy violations'),
    -- Orange, Comcast, Mimecast, QQ, 163
    ('{orange}', 'trop de connexions', 2, 3600, false, 1, NULL, NULL, NULL, false, 3600, 'More connections at once than Orange takes.', '421 mwinf5c29 ME Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. OFR_104'),
    ('{orange}', 'service refuse', 2, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'Orange refuses this address for now.', '421 4.7.1 Service refuse. Veuillez essayer plus tard. OFR_999 [999]'),
    ('{orange}', 'cloudmark|spamhaus', 5, 3600, true, NULL, NULL, NULL, NULL, false, 7200, 'The sending address is on a list that Orange uses.', '550 5.7.1 Mail rejete. Mail rejected. Blocked by Spamhaus OFR_506'),
    ('{comcast}', 'RL000010', 1, 3600, true, NULL, NULL, NULL, NULL, false, 300, 'Comcast asks for a short pause.', '421 4.1.0 192.0.2.25 Throttled - try again later. See https://postmaster.comcast.net/smtp-error-codes.php#RL000010'),
    ('{comcast}', 'RL0000(?!10)', 2, 3600, false, NULL, NULL, NULL, 166, false, 7200, 'More connections an hour than Comcast takes.', '421 4.1.0 192.0.2.25 Throttled - try again later. See https://postmaster.comcast.net/smtp-error-codes.php#RL000001'),
    ('{mimecast}', 'internal resources? (are )?temporarily unavailable', 3, 3600, true, NULL, NULL, NULL, NULL, false, 1800, 'Mimecast has no room for a moment, or greylists this address.', '451 Internal resources are temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451'),
    ('{qq}', 'frequency limited', 5, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'More mail an hour than QQ takes from this address.', '550 Domain frequency limited. https://service.mail.qq.com'),
    ('{netease}', 'too many connections', 2, 3600, false, 1, NULL, NULL, NULL, false, 3600, 'More connections at once than they take.', '421 Too many connections from 192.0.2.25'),
    ('{netease}', 'RP:ORQ|HL:ITC', 2, 3600, true, NULL, NULL, NULL, NULL, false, 3600, 'The day''s or the hour''s letters for this address are used up there.', '421 HL:ITC 163 smtp6,192.0.2.25 http://mail.163.com/help/help_spam_16.htm');
