-- acquire.lua takes a lock, or a place in its queue. It may be sent again with
-- the same id any number of times: the hold, its fence and the place stay.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters
-- ARGV  1 id     2 ttl ms  3 claim ms, 0 to try without queueing
--       4 meta   5 place in the queue from an earlier answer, or empty
--       6 ear    7 channel (see handover.lua)
-- Returns {1, fence, ttl ms} when it is held by id,
--         {0, position, pttl, place, holder} when another holds it; holder is
--         the lock's value, position 0 and place '' for a try.
local id, ttl = ARGV[1], ARGV[2]
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #id + 1) == id .. '|' then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return {1, string.match(held, '^%d+', #id + 2), ttl}
end

--#include fence.lua

if not held and redis.call('EXISTS', KEYS[3]) == 0 then
  local fence, now = next_fence()
  redis.call('SET', KEYS[1], id .. '|' .. fence .. '|' .. now .. '|' .. ARGV[4], 'PX', ttl)
  return {1, fence, ttl}
end

--#include handover.lua

local place = ''
if ARGV[3] ~= '0' then
  local t = redis.call('TIME')
  place = ARGV[5]
  if place == '' then
    local last = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')[2]
    local now = t[1] * 1000000 + t[2]
    if last and tonumber(last) >= now then now = tonumber(last) + 1 end
    place = string.format('%.0f', now)
  end
  redis.call('ZADD', KEYS[3], place, id)
  redis.call('HSET', KEYS[4], id, string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3])
    .. '|' .. ARGV[3] .. '|' .. ARGV[6] .. '|' .. ARGV[7] .. '|' .. ARGV[4])
  redis.call('PEXPIRE', KEYS[3], 600000)
  redis.call('PEXPIRE', KEYS[4], 600000)
end

if not held then
  hand_over(id, ttl)
  held = redis.call('GET', KEYS[1])
  if not held then
    -- Only the dead were before this try.
    local fence, now = next_fence()
    redis.call('SET', KEYS[1], id .. '|' .. fence .. '|' .. now .. '|' .. ARGV[4], 'PX', ttl)
    return {1, fence, ttl}
  end
  if string.sub(held, 1, #id + 1) == id .. '|' then
    return {1, string.match(held, '^%d+', #id + 2), ttl}
  end
end
local position = 0
if place ~= '' then position = redis.call('ZRANK', KEYS[3], id) + 1 end
return {0, position, redis.call('PTTL', KEYS[1]), place, held}
