-- handover.lua, included after fence.lua by the scripts that may free a lock.
-- hand_over(me, me_ttl) gives the free lock to the first live waiter and
-- returns its id, or false when nobody waits. A waiter other than me gets it
-- for its claim and is told by name; one whose process hears nothing is gone,
-- and one whose deadline has passed is cut off: the next one, then.
-- A waiter's record is "deadline|claim|ear|channel|meta", deadline in server ms;
-- ear says how to call it: P by PUBLISH, S by SPUBLISH, in lower case while its
-- process may not be subscribed yet, so that silence proves nothing.
local function hand_over(me, me_ttl)
  while true do
    local id = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    if not id then return false end
    local record = redis.call('HGET', KEYS[4], id)
    redis.call('ZREM', KEYS[3], id)
    if record then
      redis.call('HDEL', KEYS[4], id)
      local deadline, claim, ear, channel, meta = string.match(record, '^(%d+)|(%d+)|(%a)|([^|]*)|(.*)$')
      if deadline then
        local fence, now = next_fence()
        if id == me then
          redis.call('SET', KEYS[1], id .. '|' .. fence .. '|' .. now .. '|' .. meta, 'PX', me_ttl)
          return id
        end
        if tonumber(deadline) > tonumber(now) then
          local heard = redis.call((ear == 'P' or ear == 'p') and 'PUBLISH' or 'SPUBLISH',
            channel, 'grant ' .. id .. ' ' .. fence .. ' ' .. claim .. ' ' .. KEYS[1])
          if heard > 0 or ear == 'p' or ear == 's' then
            redis.call('SET', KEYS[1], id .. '|' .. fence .. '|' .. now .. '|' .. meta, 'PX', claim)
            return id
          end
        end
      end
    end
  end
end
