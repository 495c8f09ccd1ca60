-- force.lua takes a lock from those who hold it, tells them, and calls the next
-- waiters.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 PUBLISH or SPUBLISH   2 what a holder's channel starts with; its id up
--       to the last slash follows
-- Returns what it took: {value, pttl, value, pttl ...}.
--#include fence.lua
--#include sharers.lua
--#include handover.lua
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local took = {}
local held = redis.call('GET', KEYS[1])
if held then
  took = {held, redis.call('PTTL', KEYS[1])}
elseif sharers(now) > 0 then
  took = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
  for i = 2, #took, 2 do took[i] = math.floor(took[i] - now) end
end
if #took == 0 then return took end
redis.call('DEL', KEYS[1], KEYS[5])
for i = 1, #took, 2 do
  local id, fence = string.match(took[i], '^([^|]*)|(%d+)|')
  local process = id and string.match(id, '^(.*)/')
  if process then
    redis.call(ARGV[1], ARGV[2] .. process, 'lost ' .. id .. ' ' .. fence .. ' 0 0 ' .. KEYS[1])
  end
end
hand_over(0, false, 0)
return took
