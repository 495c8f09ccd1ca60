-- force.lua takes a lock from its holder, tells that holder, and calls the next
-- waiter.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters
-- ARGV  1 PUBLISH or SPUBLISH   2 what the holder's channel starts with; the id
--       up to its last slash follows
-- Returns {0} when nobody held it, {1, pttl, holder, heard}: heard is the number
-- of connections that were told.
local held = redis.call('GET', KEYS[1])
if not held then return {0} end
local pttl = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
local id, fence = string.match(held, '^([^|]*)|(%d+)|')
local heard = 0
if id then
  heard = redis.call(ARGV[1], ARGV[2] .. string.match(id, '^(.*)/'), 'lost ' .. id .. ' ' .. fence .. ' 0 ' .. KEYS[1])
end

--#include fence.lua
--#include handover.lua

hand_over(false, 0)
return {1, pttl, held, heard}
