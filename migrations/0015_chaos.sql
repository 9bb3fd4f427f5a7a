-- Letters in doubt because their worker died, by the lease they were held under: when its journal is found they are settled after all.
-- Hardly any letter is ever here, so it costs the others nothing.
CREATE INDEX deliveries_doubted ON deliveries (fence) WHERE state = 'unknown' AND reason = 'worker_died';
