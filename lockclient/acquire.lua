-- acquire.lua takes a lock, or a place in its queue. It may be sent again with
-- the same id any number of times: the hold, its fence and the place stay.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 id      2 ttl ms   3 claim ms, 0 to try without queueing
--       4 limit   5 meta     6 ear and 7 channel (see handover.lua)
--       8 place in the queue from an earlier answer, or empty
--       9 1 when id was sent before
-- Returns "1 fence since" when it is held by id, since in ms;
--         "0 position pttl place fence holder" when it has to wait: position and
--         place are 0 for a try, pttl is that of the hold that ends first, fence
--         the last one granted, holder the value of one that holds it.
local id, ttl, limit = ARGV[1], ARGV[2], ARGV[4]
--#include fence.lua
if limit == 'x' and redis.call('EXISTS', KEYS[1], KEYS[3], KEYS[5]) == 0 then
  local fence, since = next_fence()
  redis.call('SET', KEYS[1], id .. '|' .. fence .. '|' .. since .. '|' .. ARGV[5], 'PX', ttl)
  return '1 ' .. fence .. ' ' .. since
end

local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #id + 1) == id .. '|' then
  redis.call('PEXPIRE', KEYS[1], ttl)
  return '1 ' .. string.gsub(string.match(held, '^%d+|%d+', #id + 2), '|', ' ')
end

--#include sharers.lua
--#include handover.lua

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local n = 0
if not held then
  n = sharers(now)
  if ARGV[9] == '1' and n > 0 then
    for _, value in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
      if string.sub(value, 1, #id + 1) == id .. '|' then
        share(value, now, tonumber(ttl))
        return '1 ' .. string.gsub(string.match(value, '^%d+|%d+', #id + 2), '|', ' ')
      end
    end
  end
end

local function free()
  return not held and (n == 0 or limit == '0' or limit ~= 'x' and n < tonumber(limit)) and redis.call('EXISTS', KEYS[3]) == 0
end
local function grant()
  local fence, since = next_fence()
  local value = id .. '|' .. fence .. '|' .. since .. '|' .. ARGV[5]
  if limit == 'x' then
    redis.call('SET', KEYS[1], value, 'PX', ttl)
  else
    share(value, now, tonumber(ttl))
  end
  return '1 ' .. fence .. ' ' .. since
end
if free() then return grant() end

local place = '0'
if ARGV[3] ~= '0' then
  local last = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')[2]
  place = ARGV[8]
  if place == '' then
    local us = t[1] * 1000000 + t[2]
    if last and tonumber(last) >= us then us = last + 1 end
    place = string.format('%.0f', us)
  end
  redis.call('ZADD', KEYS[3], place, id)
  redis.call('HSET', KEYS[4], id, string.format('%.0f', now + ARGV[3]) .. '|' .. ARGV[3] .. '|' .. ARGV[6]
    .. '|' .. limit .. '|' .. ARGV[7] .. '|' .. ARGV[5])
  -- What nobody looks after any more goes after two hours: put off by the first
  -- of each hour, and by beats.
  if not last or math.floor(last / 3.6e9) ~= math.floor(place / 3.6e9) then
    redis.call('PEXPIRE', KEYS[3], 7200000)
    redis.call('PEXPIRE', KEYS[4], 7200000)
  end
end

if not held then
  local mine = hand_over(n, id, ttl)
  if mine then return '1 ' .. mine end
  held = redis.call('GET', KEYS[1])
  if not held then n = sharers(now) end
  -- Were there only the dead before this try?
  if place == '0' and free() then return grant() end
end

local position = 0
if place ~= '0' then position = redis.call('ZRANK', KEYS[3], id) + 1 end
local fence, pttl
if held then
  fence = string.match(held, '^[^|]*|(%d+)')
  pttl = position > 2 and -1 or redis.call('PTTL', KEYS[1])
else
  local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  held = first[1] or ''
  fence = redis.call('GET', KEYS[2])
  pttl = first[2] and string.format('%.0f', first[2] - now) or -1
end
return '0 ' .. position .. ' ' .. pttl .. ' ' .. place .. ' ' .. (fence or '0') .. ' ' .. held
