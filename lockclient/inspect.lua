-- inspect.lua reads all there is to know of a lock, and changes nothing.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- Returns {fence, holders, value, pttl ..., waiter, record ...}: as many pairs
-- of value and pttl as holders says, then the waiters in order, and of both only
-- those that are in time.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answer = {redis.call('GET', KEYS[2]) or '0', 0}
local held = redis.call('GET', KEYS[1])
if held then
  answer[2], answer[3], answer[4] = 1, held, redis.call('PTTL', KEYS[1])
else
  local shared = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
  for i = 1, #shared, 2 do
    local left = shared[i + 1] - now
    if left > 0 then
      answer[2] = answer[2] + 1
      answer[#answer + 1] = shared[i]
      answer[#answer + 1] = math.floor(left)
    end
  end
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local record = redis.call('HGET', KEYS[4], id)
  local deadline = record and tonumber(string.match(record, '^%d+'))
  if deadline and deadline > now then
    answer[#answer + 1] = id
    answer[#answer + 1] = record
  end
end
return answer
