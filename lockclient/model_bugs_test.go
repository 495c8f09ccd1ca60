package lockclient_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/peerhq/peer/testcluster"
)

// TestModelInvariants breaks the model, to see that each invariant can fail.
func TestModelInvariants(t *testing.T) {
	calm := modelConfig{clients: 2, attempts: 1, ttl: 2, claim: 1}
	faulty := calm
	faulty.faults = 1
	for _, tt := range []struct {
		bug  modelBug
		in   modelConfig
		want string
	}{
		{bugLosesPlace, faulty, "a place was lost"},
		{bugReleaseCallsNobody, calm, "the lock is free while somebody waits"},
		{bugRenewTakesAny, faulty, "believes in fence"},
		{bugGrantCountsFromPush, modelConfig{clients: 2, attempts: 1, ttl: 3, claim: 2}, "believes in fence"},
		{bugFenceNotRaised, calm, "a fence did not rise"},
		{bugNoBeat, calm, "somebody waits for ever"},
	} {
		m := &model{tt.in}
		m.bug = tt.bug
		r := m.search(1_000_000)
		t.Logf("bug %d: %s after %v (%d states, %v)", tt.bug, r.wrong, r.trace, len(r.nodes), r.took.Round(time.Millisecond))
		if !strings.Contains(r.wrong, tt.want) {
			t.Errorf("bug %d: got %q, want %q", tt.bug, r.wrong, tt.want)
		}
	}
}

var scriptBugs = []scriptBug{
	{"who is cut off is granted", "handover.lua", "elseif tonumber(deadline) > tonumber(since) then", "elseif deadline then"},
	{"who is gone is granted", "handover.lua", "granted = heard > 0 or ear == 'p' or ear == 's'", "granted = true"},
	{"who may not be subscribed yet is passed over", "handover.lua", "granted = heard > 0 or ear == 'p' or ear == 's'", "granted = heard > 0"},
	{"a record stays after its turn", "handover.lua", "    redis.call('HDEL', KEYS[4], id)\n", ""},
	{"the last is first", "handover.lua", "ZPOPMIN", "ZPOPMAX"},
	{"who asks gets a claim only", "handover.lua", "mine, claim = fence .. ' ' .. since, ttl", "mine = fence .. ' ' .. since"},
	{"a grant does not end", "handover.lua", "redis.call('SET', KEYS[1], value, 'PX', claim)", "redis.call('SET', KEYS[1], value)"},
	{"a hold asked for again is not extended", "acquire.lua", "  call('PEXPIRE', KEYS[1], ttl)\n", ""},
	{"a new waiter counts as cut off", "acquire.lua", "string.format('%.0f', now + claim)", "string.format('%.0f', now)"},
	{"a question sent again loses its place", "acquire.lua", "tonumber(call('ZSCORE', KEYS[3], id) or nil)", "nil"},
	{"two have one place", "acquire.lua", "if last and tonumber(last) >= us then us = last + 1 end", ""},
	{"a try barges", "acquire.lua", "call('EXISTS', KEYS[1], KEYS[3], KEYS[5]) == 0", "call('EXISTS', KEYS[1], KEYS[5]) == 0"},
	{"the dead keep a try out", "acquire.lua", "  if claim == '0' and free() then return grant() end\n", ""},
	{"the second is not told when the hold ends", "acquire.lua", "position > 2 and -1", "position > 1 and -1"},
	{"a queue stays for ever", "acquire.lua", "    call('PEXPIRE', KEYS[4], 7200000)\n", ""},
	{"nobody waits for others after a loss of data", "acquire.lua", "  call('SET', KEYS[1], held, 'PX', 2000)\n", ""},
	{"anybody may release", "release.lua", "if string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. '|' then return -1 end\n", ""},
	{"a release calls nobody", "release.lua", "  hand_over(0, false, 0)\n", ""},
	{"a release keeps the lock", "release.lua", "redis.call('DEL', KEYS[1])\n", ""},
	{"anybody may renew", "renew.lua", "if string.sub(held, 1, #ARGV[1] + 1) ~= ARGV[1] .. '|' then return -1 end\n", ""},
	{"a renewal makes a lock that is gone", "renew.lua", "if not held then return 0 end\n", "if not held then redis.call('SET', KEYS[1], ARGV[1] .. '|1|1|', 'PX', ARGV[2]) return 1 end\n"},
	{"who leaves stays in the queue", "leave.lua", "redis.call('ZREM', KEYS[3], id)\n", ""},
	{"who leaves a free lock calls nobody", "leave.lua", "hand_over(n - gone, false, 0)\n", ""},
	{"who leaves keeps what it holds", "leave.lua", "  redis.call('DEL', KEYS[1])\n", ""},
	{"a beat lets nobody in", "beat.lua", "  hand_over(sharers(now), false, 0)\n", ""},
	{"a beat does not put the deadline off", "beat.lua", "string.format('%.0f', now + claim)", "ends"},
	{"a beat forgets how to call", "beat.lua", "'|' .. ARGV[1] .. rest", "'|p' .. rest"},
	{"a position is one too low", "beat.lua", "rank and rank + 1 or 0", "rank and rank or 0"},
	{"a forced holder is not told", "force.lua", "  if process then\n", "  if false then\n"},
	{"force calls nobody", "force.lua", "hand_over(0, false, 0)\n", ""},
	{"a fence is given twice", "risen.lua", "tonumber(last) + 1", "tonumber(last)"},
	{"a fence equal to the time is given twice", "risen.lua", "last >= fence", "last > fence"},
	{"the fence counter is not kept", "fence.lua", "GETSET', KEYS[2], fence)", "GET', KEYS[2])"},
	{"the cut off are shown", "inspect.lua", "if deadline and deadline > now then", "if deadline then"},
}

// TestModelScriptBugs plants bugs in the scripts: the traces find each.
func TestModelScriptBugs(t *testing.T) {
	if testcluster.RaceDetector {
		t.Skip("the search takes a minute under the race detector")
	}
	witnesses, random := modelTraces()
	_, err := exec.LookPath("redis-server")
	embedded := err != nil && !testcluster.Required("redis")
	if embedded {
		t.Log("no redis-server on the PATH: this test uses an embedded Redis instead")
	}
	s := newReplayServer(t, embedded)
	caught, chance := 0, 0
	for _, bug := range scriptBugs {
		s.load(t, &bug)
		n, differ := 0, error(nil)
		for _, r := range append(witnesses[:len(witnesses):len(witnesses)], random...) {
			n++
			if differ = s.replay(r, false); differ != nil {
				break
			}
		}
		switch {
		case differ == nil:
			t.Errorf("%s, in %s: not caught by %d traces", bug.what, bug.file, n)
			continue
		case n > len(witnesses):
			chance++
		}
		caught++
		t.Logf("%s, in %s: caught by trace %d", bug.what, bug.file, n)
		if testing.Verbose() && n > len(witnesses) {
			t.Log(differ)
		}
	}
	t.Logf("%d of %d bugs caught, %d by a random trace only", caught, len(scriptBugs), chance)
}
