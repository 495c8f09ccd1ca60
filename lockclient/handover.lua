-- handover.lua, included after fence.lua and sharers.lua by the scripts that may
-- free a lock. hand_over(n, me, ttl) gives a lock that nobody holds alone, and n
-- share, to those whose turn it is: the first live waiter, and when that one
-- shares, the next ones as long as they may share it too. If me is among them,
-- it gets it for ttl and "fence since" is returned; others get it for their claim
-- and are told by name. One whose process hears nothing is gone, and one whose
-- deadline has passed is cut off: the next one, then.
--
-- A waiter's record is "deadline|claim|ear|limit|channel|meta". The deadline is
-- in server ms. ear says how to call it: P by PUBLISH, S by SPUBLISH, in lower
-- case while its process may not be subscribed yet, so that silence proves
-- nothing. limit is x for one that wants the lock alone, else with how many it
-- shares it, 0 for any number.
local function hand_over(n, me, ttl)
  local mine = false
  while true do
    local id
    if n == 0 then
      id = redis.call('ZPOPMIN', KEYS[3])[1]
    else
      id = redis.call('ZRANGE', KEYS[3], 0, 0)[1]
    end
    if not id then return mine end
    local record = redis.call('HGET', KEYS[4], id) or ''
    local deadline, claim, ear, limit, channel, meta =
      string.match(record, '^(%d+)|(%d+)|(%a)|(%w+)|([^|]*)|(.*)$')
    if n > 0 then
      if limit == 'x' or limit and limit ~= '0' and n >= tonumber(limit) then
        local t = redis.call('TIME')
        if tonumber(deadline) > t[1] * 1000 + t[2] / 1000 then return mine end
        deadline = nil
      end
      redis.call('ZREM', KEYS[3], id)
    end
    redis.call('HDEL', KEYS[4], id)
    if deadline then
      local fence, since = next_fence()
      local granted = id == me
      if granted then
        mine, claim = fence .. ' ' .. since, ttl
      elseif tonumber(deadline) > tonumber(since) then
        local heard = redis.call((ear == 'P' or ear == 'p') and 'PUBLISH' or 'SPUBLISH', channel,
          'grant ' .. id .. ' ' .. fence .. ' ' .. since .. ' ' .. claim .. ' ' .. KEYS[1])
        granted = heard > 0 or ear == 'p' or ear == 's'
      end
      if granted then
        local value = id .. '|' .. fence .. '|' .. since .. '|' .. meta
        if limit == 'x' then
          redis.call('SET', KEYS[1], value, 'PX', claim)
          return mine
        end
        share(value, tonumber(since), tonumber(claim))
        n = n + 1
      end
    end
  end
end
