-- What is known of the recipients' mail servers, shared by all workers. Everything here can be found out again.

CREATE TABLE mx_answers (                         -- what DNS said
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('MX', 'ADDRESS', 'STS')),
    found boolean NOT NULL,                       -- false: there is no such record, or no such name
    answers text[] NOT NULL,
    expires_at timestamptz NOT NULL,
    missing_since timestamptz,                    -- since when every answer has been "there is nothing"
    PRIMARY KEY (name, kind)
);
CREATE INDEX mx_answers_expires ON mx_answers (expires_at);

CREATE TABLE mx_policies (                        -- MTA-STS policies that were fetched (RFC 8461)
    domain text PRIMARY KEY,
    id text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('enforce', 'testing', 'none')),
    hosts text[] NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE mx_broken_tls (                      -- hosts that offer TLS and cannot do it
    host text PRIMARY KEY,
    until timestamptz NOT NULL,
    reason text NOT NULL
);
