-- leave.lua undoes whatever came of id: it leaves the queue, and gives back what
-- it holds, alone or shared. It also releases a shared hold.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 id   2 the value of its shared hold, if that is known, else empty
-- Returns 1 when it held the lock, 0 when nobody does, -1 when only others do.
local id = ARGV[1]
redis.call('ZREM', KEYS[3], id)
redis.call('HDEL', KEYS[4], id)

--#include fence.lua
--#include sharers.lua
--#include handover.lua

local held = redis.call('GET', KEYS[1])
if held then
  if string.sub(held, 1, #id + 1) ~= id .. '|' then return -1 end
  redis.call('DEL', KEYS[1])
  hand_over(0, false, 0)
  return 1
end
local t = redis.call('TIME')
local n = sharers(t[1] * 1000 + math.floor(t[2] / 1000))
local gone = 0
if n > 0 then
  if ARGV[2] ~= '' then
    gone = redis.call('ZREM', KEYS[5], ARGV[2])
  else
    for _, value in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
      if string.sub(value, 1, #id + 1) == id .. '|' then gone = redis.call('ZREM', KEYS[5], value) end
    end
  end
end
-- Who waited behind it may have its turn now.
hand_over(n - gone, false, 0)
if gone == 1 then return 1 end
return (n > 0 or redis.call('EXISTS', KEYS[1]) == 1) and -1 or 0
