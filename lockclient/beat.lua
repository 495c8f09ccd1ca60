-- beat.lua says that waiters of one process are still there, and lets the first
-- in line in when the lock has become free by itself.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters
-- ARGV  1 ear   2 id 3 id ...
-- Returns {pttl, holder, position, position ...}: position 0 for an id that is
-- not in the queue (it was granted, or forgotten): it has to ask again.
-- holder is '' and pttl -2 when nobody holds the lock.
local held = redis.call('GET', KEYS[1])
if not held and redis.call('EXISTS', KEYS[3]) == 1 then
--#include fence.lua
--#include handover.lua
  hand_over(false, 0)
  held = redis.call('GET', KEYS[1])
end
local ids = {}
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
local records = redis.call('HMGET', KEYS[4], unpack(ids))
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local set, answer = {}, {redis.call('PTTL', KEYS[1]), held or ''}
for i, id in ipairs(ids) do
  local rank = records[i] and redis.call('ZRANK', KEYS[3], id)
  local claim, rest
  if rank then claim, rest = string.match(records[i], '^%d+|(%d+)|%a(|.*)$') end
  if claim then
    set[#set + 1] = id
    set[#set + 1] = string.format('%.0f', now + claim) .. '|' .. claim .. '|' .. ARGV[1] .. rest
  end
  answer[i + 2] = claim and rank + 1 or 0
end
if #set > 0 then
  redis.call('HSET', KEYS[4], unpack(set))
  redis.call('PEXPIRE', KEYS[3], 600000)
  redis.call('PEXPIRE', KEYS[4], 600000)
end
return answer
