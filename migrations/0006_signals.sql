-- A click's verdict may hang on what else its address clicks, and warm-up asks when a person last clicked.

CREATE INDEX signals_clickers ON signals (ip, at) WHERE kind = 'click';

ALTER TABLE engaged ADD COLUMN IF NOT EXISTS clicked_at timestamptz;  -- the latest click that was a person's
UPDATE engaged SET clicked_at = clicked.at
FROM (SELECT subscriber_id, max(at) AS at FROM signals WHERE kind = 'click' AND verdict = 'human' GROUP BY subscriber_id) AS clicked
WHERE engaged.subscriber_id = clicked.subscriber_id AND engaged.clicked_at IS NULL;
