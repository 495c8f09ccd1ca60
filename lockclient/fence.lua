-- fence.lua, included by the scripts that grant.
-- next_fence() returns the next fence and the server's time in ms, as strings.
-- The fence rises with every grant: by one, or to the server's time in µs where
-- that is more, so that it also rises after the counter was lost with the data.
local function next_fence()
  local t = redis.call('TIME')
  local fence = t[1] .. string.format('%06d', tonumber(t[2]))
  local since = string.sub(fence, 1, -4)
  local last = redis.call('GETSET', KEYS[2], fence)
  if last and (#last > #fence or #last == #fence and last >= fence) and tonumber(last) then
    -- %.0f, because Lua's own conversion of a number keeps 14 digits only.
    fence = string.format('%.0f', tonumber(last) + 1)
    redis.call('SET', KEYS[2], fence)
  end
  return fence, since
end
