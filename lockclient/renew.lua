-- renew.lua puts the end of a hold off. It never makes a lock that is gone.
--
-- KEYS  1 lock
-- ARGV  1 id   2 ttl ms
-- Returns 1 renewed, 0 nobody holds it (it had expired), -1 another does.
local held = redis.call('GET', KEYS[1])
if not held then return 0 end
if string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. '|' then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
