-- fencecheck.lua writes to a resource that a lock protects, and refuses one who
-- lost the lock and does not know it yet.
--
-- KEYS  1 the resource   2 the greatest fence seen for it, in one hash slot
-- ARGV  1 the writer's fence   2 the value to write
-- Returns 1 written, 0 refused: a later holder has been here.
local seen, fence = redis.call('GET', KEYS[2]), ARGV[1]
-- As text: Lua's numbers are exact up to 2^53 only, which fences reach in 2255.
if seen and (#fence < #seen or #fence == #seen and fence < seen) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], fence)
return 1
