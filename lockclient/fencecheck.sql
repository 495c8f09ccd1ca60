-- Writes to a row that a lock protects, and refuses one who lost the lock and
-- does not know it yet: then it changes no row. The table has a column
--   fence BIGINT NOT NULL DEFAULT 0
-- $1 the value to write, $2 the writer's fence, $3 the row.
UPDATE resource SET value = $1, fence = $2 WHERE id = $3 AND fence <= $2
