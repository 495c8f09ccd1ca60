-- release.lua gives a lock back if id holds it, and calls the next waiter. Sent
-- with leave it also takes id out of the queue, whatever became of it there.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters
-- ARGV  1 id     2 leave: 1 also leaves the queue
-- Returns {1} released, {0} nobody holds it (it had expired), {-1, holder} when
-- another holds it.
local id = ARGV[1]
if ARGV[2] == '1' then
  redis.call('ZREM', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
end
local held = redis.call('GET', KEYS[1])
if not held then return {0} end
if string.sub(held, 1, #id + 1) ~= id .. '|' then return {-1, held} end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[3]) == 0 then return {1} end

--#include fence.lua
--#include handover.lua

hand_over(false, 0)
return {1}
