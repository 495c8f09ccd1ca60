-- renewshared.lua puts the end of a shared hold off. It never makes one that is
-- gone.
--
-- KEYS  1 lock   2 fence   3 queue   4 waiters   5 shared holds
-- ARGV  1 the hold's value   2 ttl ms
-- Returns 1 renewed, 0 it had expired.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[5], ARGV[1])
if not ends or tonumber(ends) <= now then return 0 end
--#include sharers.lua
share(ARGV[1], now, tonumber(ARGV[2]))
return 1
