-- A crash of the embedded PostgreSQL soon after the first start may have put these back: the next id was taken already.
SELECT setval('reply_rules_id_seq', GREATEST((SELECT max(id) FROM reply_rules), (SELECT last_value FROM reply_rules_id_seq)));
SELECT setval('providers_id_seq', GREATEST((SELECT max(id) FROM providers), (SELECT last_value FROM providers_id_seq)));
SELECT setval('complaint_senders_id_seq', GREATEST((SELECT max(id) FROM complaint_senders), (SELECT last_value FROM complaint_senders_id_seq)));

-- A limit of ours that is used up for today, said in words of "for good": every further letter would hear the same, so none is lost to it.
INSERT INTO reply_rules (pattern, threshold, window_seconds, suspend, duration_seconds, advice, sample) VALUES
    ('^5\d\d (?!.*(receiv|incoming|inbound|mailbox)).*(\m(daily|hourly|monthly)\M.{0,40}\m(limit|quota)|\m(sending|submission|outgoing|relay(ing)?)\M.{0,20}\m(limit|quota)|submissionquotaexceeded|\mcredits?\M.{0,20}\m(limit|exhausted|used up))', 3, 3600, true, 3600, 'More letters than the relay or the provider lets this account send in a time. Sending goes on by itself; send fewer, or ask them for more.', '550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to https://support.google.com/a/answer/166852');
