-- batch.lua runs acquire.lua and release.lua for several locks, each as if it had
-- come alone: what goes wrong with one is nothing to the others. A third of what a
-- short script costs the server is spent before it begins.
--
-- KEYS  five for each, see there
-- ARGV  1 a letter for each: a acquire, A acquire with all but the id as in the
--         last acquire before it, r release; then their own, four, one and one
-- Returns what each returns; false for one that has failed, to be asked alone.
local function acquire(KEYS, ARGV, ...)
--#include acquire.lua
end
local function release(KEYS, ARGV)
--#include release.lua
end
local what, out, k, a, time = ARGV[1], {}, 0, 2, redis.call('TIME')
local ttl, meta, rest
for i = 1, #what do
  local keys, letter, ok, got = {KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], KEYS[k + 5]}, string.byte(what, i)
  if letter == 114 then -- r
    ok, got = pcall(release, keys, {ARGV[a]})
  else
    if letter == 97 then -- a
      ttl, meta, rest = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
    end
    ok, got = pcall(acquire, keys, {ARGV[a], ttl, meta, rest}, time)
    if letter == 97 then a = a + 3 end
  end
  out[i] = ok and got
  k, a = k + 5, a + 1
end
return out
