-- The ways out that the settings name, as the workers have them: known before any letter took one.

ALTER TABLE egress ADD COLUMN seen_at timestamptz;  -- when a worker last said that the settings name it; null: a relay with a name
