-- sharers.lua, included by the scripts that look at shared holds.
-- sharers(now) forgets the holds that are over at now, in ms, and returns how
-- many are left. share(value, now, ttl) adds one.
local function sharers(now)
  if redis.call('EXISTS', KEYS[5]) == 0 then return 0 end
  redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now)
  return redis.call('ZCARD', KEYS[5])
end
local function share(value, now, ttl)
  redis.call('ZADD', KEYS[5], string.format('%.0f', now + ttl), value)
  local last = redis.call('ZRANGE', KEYS[5], -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIRE', KEYS[5], string.format('%.0f', math.max(last - now, ttl)))
end
