package core

import (
	"testing"
	"time"
)

// What happens all the time costs no allocation, whatever the size.
func TestIdleAllocatesNothing(t *testing.T) {
	for _, n := range sizes {
		c, links, now := coreOf(n)
		c.contacts.acked = 1 << 60 // pings are answered all the time
		for name, f := range map[string]func(){
			"tick":  func() { now = idle(c, links, now) },
			"heard": func() { now += time.Microsecond; c.Step(now, Heard{Peer: links[0].Peer}) },
		} {
			if got := testing.AllocsPerRun(100, f); got != 0 {
				t.Errorf("%s among %d members: %v allocations, want 0", name, n, got)
			}
		}
	}
}

// A newcomer learns thousands within a bounded time and memory, says so once, and
// hands nothing on: it is news to nobody else. It asks for what it lacks in parts.
func TestLearnManyAtOnce(t *testing.T) {
	const n, now = 3_000, time.Hour
	c := New(Config{Self: recOf(0), ForgetAfter: 72 * time.Hour, Seed: 1}, now)
	out := c.Step(now, Table{From: recOf(1).ID, Recs: tableOf(n)})
	if got := len(out.Changes); got != n-1 {
		t.Errorf("%d changes, want %d", got, n-1)
	}
	if len(out.Logs) != 1 {
		t.Errorf("%d log lines, want 1", len(out.Logs))
	}
	for _, s := range out.Sends {
		if m, ok := s.Msg.(News); ok && len(m.Recs) == 1 && m.Recs[0].ID != c.self.ID {
			t.Fatalf("hands on %v", m.Recs[0].ID)
		}
	}
	wants := func(out *Output) (n int) {
		for _, s := range out.Sends {
			if _, ok := s.Msg.(Want); ok {
				n++
			}
		}
		return n
	}
	if got := wants(c.Step(now+time.Second, Tick{})); got != fetchBurst {
		t.Errorf("asks for %d records in one tick, want %d", got, fetchBurst)
	}
	if got := wants(c.Step(now+2*time.Second, Tick{})); got != fetchBurst {
		t.Errorf("asks for %d records in the next tick, want %d", got, fetchBurst)
	}
}
