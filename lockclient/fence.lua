-- fence.lua, included by the scripts that grant.
-- next_fence() returns the next fence as a string, and the server's time in ms.
-- It rises with every grant: by one, or to the server's time in µs where that
-- is more, so that it also rises after the counter was lost with the data.
-- (%.0f, because Lua's own conversion keeps 14 digits only.)
local function next_fence()
  local t = redis.call('TIME')
  local now = t[1] * 1000000 + t[2]
  local last = redis.call('GETSET', KEYS[2], string.format('%.0f', now))
  local fence = now
  last = last and tonumber(last)
  if last and last >= now then
    fence = last + 1
    redis.call('SET', KEYS[2], string.format('%.0f', fence))
  end
  return string.format('%.0f', fence), string.format('%.0f', now / 1000)
end
