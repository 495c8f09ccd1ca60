-- release.lua gives a lock back if id holds it alone, and calls the next waiter.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 id
-- Returns 1 released, 0 nobody holds it (it had expired), -1 another does.
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
if string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. '|' then return -1 end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[3]) == 1 then
--#include fence.lua
--#include sharers.lua
--#include handover.lua
  hand_over(0, false, 0)
end
return 1
