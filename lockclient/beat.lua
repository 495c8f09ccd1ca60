-- beat.lua says that waiters of one process are still there, and lets those in
-- whose turn it has become because a hold ended by itself.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 ear   2 a digit for each id: 1 asks for its position   3 id   4 id ...
-- Returns "pttl fence position,position... holder", as acquire.lua does;
-- position 0 for an id that is not in the queue (it was granted, or forgotten):
-- it has to ask again; -1 for one that is, and did not ask for its position.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
--#include fence.lua
--#include sharers.lua
local held = redis.call('GET', KEYS[1])
if not held and redis.call('EXISTS', KEYS[3]) == 1 then
--#include handover.lua
  hand_over(sharers(now), false, 0)
  held = redis.call('GET', KEYS[1])
end
local ids = {}
for i = 3, #ARGV do ids[i - 2] = ARGV[i] end
local records = redis.call('HMGET', KEYS[4], unpack(ids))
local set, positions, hour = {}, {}, false
for i, id in ipairs(ids) do
  local rank, ends, claim, rest = -2
  if records[i] then
    ends, claim, rest = string.match(records[i], '^(%d+)|(%d+)|%a(|.*)$')
    if string.byte(ARGV[2], i) == 49 then rank = redis.call('ZRANK', KEYS[3], id) end
  end
  if claim and rank then
    set[#set + 1] = id
    set[#set + 1] = string.format('%.0f', now + claim) .. '|' .. claim .. '|' .. ARGV[1] .. rest
    if math.floor(ends / 3.6e6) ~= math.floor((now + claim) / 3.6e6) then hour = true end
  end
  positions[i] = claim and rank and rank + 1 or 0
end
if #set > 0 then
  redis.call('HSET', KEYS[4], unpack(set))
  if hour then
    redis.call('PEXPIRE', KEYS[3], 7200000)
    redis.call('PEXPIRE', KEYS[4], 7200000)
  end
end
local fence, pttl
if held then
  fence, pttl = string.match(held, '^[^|]*|(%d+)'), redis.call('PTTL', KEYS[1])
else
  local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  held = first[1] or ''
  fence = redis.call('GET', KEYS[2])
  pttl = first[2] and string.format('%.0f', first[2] - now) or -1
end
return pttl .. ' ' .. (fence or '0') .. ' ' .. table.concat(positions, ',') .. ' ' .. held
