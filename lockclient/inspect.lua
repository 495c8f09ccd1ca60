-- inspect.lua reads all there is to know of a lock.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters
-- Returns {pttl, holder, fence, waiter, record, waiter, record ...}: holder is ''
-- when nobody holds it, the waiters are in order, and only those in time.
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local answer = {redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[1]) or '', redis.call('GET', KEYS[2]) or '0'}
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local record = redis.call('HGET', KEYS[4], id)
  local deadline = record and tonumber(string.match(record, '^%d+'))
  if deadline and deadline > now then
    answer[#answer + 1] = id
    answer[#answer + 1] = record
  end
end
return answer
