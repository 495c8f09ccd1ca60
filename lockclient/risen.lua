-- risen.lua, included where fence is the server's time in µs and last what it
-- replaced as the counter. The fence rises with every grant: by one, or to the
-- time where that is more, so that it also rises after the counter was lost with
-- the data.
if last and (#last > #fence or #last == #fence and last >= fence) and tonumber(last) then
  -- %.0f, because Lua's own conversion of a number keeps 14 digits only.
  fence = string.format('%.0f', tonumber(last) + 1)
  redis.call('SET', KEYS[2], fence)
end
