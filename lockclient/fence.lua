-- fence.lua, included by the scripts that grant.
-- next_fence() returns the next fence and the server's time in ms, as strings.
local function next_fence()
  local t = redis.call('TIME')
  local fence = t[1] .. string.sub('00000' .. t[2], -6)
  local since = string.sub(fence, 1, -4)
  local last = redis.call('GETSET', KEYS[2], fence)
--#include risen.lua
  return fence, since
end
