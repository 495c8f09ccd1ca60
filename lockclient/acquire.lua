-- acquire.lua takes a lock, or a place in its queue. It may be sent again with
-- the same id any number of times, also word for word when its answer was lost:
-- the hold, its fence and the place stay.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 id   2 ttl ms   3 meta
--       4 "limit claim again place ear channel", see handover.lua. claim is in
--         ms, 0 to try without queueing; again 1 when an answer to id was read
--         before, which no step relies on; place in the queue that of an earlier
--         answer, or 0. In one string, because each costs time on the way that
--         most go, which does not read it.
-- The time may be given as a first argument of the chunk, as batch.lua does.
-- Returns "1 fence since" when it is held by id, since in ms;
--         "0 position pttl place fence holder" when it has to wait: position and
--         place are 0 for a try, pttl is that of the hold that ends first, fence
--         the last one granted, holder the value of one that holds it.
local call, id, ttl = redis.call, ARGV[1], ARGV[2]
local alone = string.byte(ARGV[4]) == 120 -- x
if alone and call('EXISTS', KEYS[1], KEYS[3], KEYS[5]) == 0 and string.find(ARGV[4], '^x %d+ %d 0 ') then
  local t = ... or call('TIME')
  local fence = t[1] .. string.sub('00000' .. t[2], -6)
  local since = string.sub(fence, 1, -4)
  local last = call('GETSET', KEYS[2], fence)
--#include risen.lua
  call('SET', KEYS[1], id .. '|' .. fence .. '|' .. since .. '|' .. ARGV[3], 'PX', ttl)
  return '1 ' .. fence .. ' ' .. since
end

local held = call('GET', KEYS[1])
if held and string.sub(held, 1, #id + 1) == id .. '|' then
  call('PEXPIRE', KEYS[1], ttl)
  return '1 ' .. string.gsub(string.match(held, '^%d+|%d+', #id + 2), '|', ' ')
end

--#include fence.lua
--#include sharers.lua
--#include handover.lua

local limit, claim, place, ear, channel = string.match(ARGV[4], '^(%w+) (%d+) %d (%d+) (%a) (.*)$')
local t = ... or call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local n = 0
if not held then
  n = sharers(now)
  if n > 0 and not alone then
    for _, value in ipairs(call('ZRANGE', KEYS[5], 0, -1)) do
      if string.sub(value, 1, #id + 1) == id .. '|' then
        share(value, now, tonumber(ttl))
        return '1 ' .. string.gsub(string.match(value, '^%d+|%d+', #id + 2), '|', ' ')
      end
    end
  end
end

local function free()
  return not held and (n == 0 or limit == '0' or not alone and n < tonumber(limit)) and call('EXISTS', KEYS[3]) == 0
end
local function grant()
  local fence, since = next_fence()
  local value = id .. '|' .. fence .. '|' .. since .. '|' .. ARGV[3]
  if alone then
    call('SET', KEYS[1], value, 'PX', ttl)
  else
    share(value, now, tonumber(ttl))
  end
  return '1 ' .. fence .. ' ' .. since
end

-- One with a place, which nobody was granted the lock after, finds neither hold nor
-- queue: Redis lost its data. Those who waited before it have to ask again, too,
-- before anybody has a turn: nobody holds the lock meanwhile, as if somebody did.
-- Two seconds, because they dial once in a second, and pause up to one and a half.
if not held and n == 0 and place ~= '0' and call('EXISTS', KEYS[3]) == 0
  and tonumber(call('GET', KEYS[2]) or 0) < tonumber(place) then
  local fence, since = next_fence()
  held = '|' .. fence .. '|' .. since .. '|{"node":"nobody yet: Redis lost its data","ttl_ms":2000}'
  call('SET', KEYS[1], held, 'PX', 2000)
end
if free() then return grant() end

if claim ~= '0' then
  local last = call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')[2]
  if place == '0' then
    local us = tonumber(call('ZSCORE', KEYS[3], id) or nil)
    if not us then
      us = t[1] * 1000000 + t[2]
      if last and tonumber(last) >= us then us = last + 1 end
    end
    place = string.format('%.0f', us)
  end
  call('ZADD', KEYS[3], place, id)
  call('HSET', KEYS[4], id, string.format('%.0f', now + claim) .. '|' .. claim .. '|' .. ear
    .. '|' .. limit .. '|' .. channel .. '|' .. ARGV[3])
  -- What nobody looks after any more goes after two hours: put off by the first
  -- of each hour, and by beats.
  if not last or math.floor(last / 3.6e9) ~= math.floor(place / 3.6e9) then
    call('PEXPIRE', KEYS[3], 7200000)
    call('PEXPIRE', KEYS[4], 7200000)
  end
end

if not held then
  local mine = hand_over(n, id, ttl)
  if mine then return '1 ' .. mine end
  held = call('GET', KEYS[1])
  if not held then n = sharers(now) end
  -- Were there only the dead before this try?
  if claim == '0' and free() then return grant() end
end

local position = 0
if claim ~= '0' then position = call('ZRANK', KEYS[3], id) + 1 end
local fence, pttl
if held then
  fence = string.match(held, '^[^|]*|(%d+)')
  pttl = position > 2 and -1 or call('PTTL', KEYS[1])
else
  local first = call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')
  held = first[1] or ''
  fence = call('GET', KEYS[2])
  pttl = first[2] and string.format('%.0f', first[2] - now) or -1
end
return '0 ' .. position .. ' ' .. pttl .. ' ' .. place .. ' ' .. (fence or '0') .. ' ' .. held
