package cluster

import (
	"sync/atomic"
	"time"
)

// pulse is the part of a member that moves all the time: when its newest
// heartbeat was sent, and the round trip to it. The owner writes it, and readers
// need no lock.
type pulse struct {
	heard atomic.Int64 // since base
	rtt   atomic.Int64
	base  time.Time
}

func newPulse(base time.Time, at time.Duration) *pulse {
	p := &pulse{base: base}
	p.heard.Store(int64(at))
	return p
}

func (p *pulse) last() time.Time { return p.base.Add(time.Duration(p.heard.Load())) }

// touch takes in that a heartbeat was sent at a time since base.
func (p *pulse) touch(at time.Duration) {
	if int64(at) > p.heard.Load() {
		p.heard.Store(int64(at))
	}
}

// heartbeatLimit is the age that no heartbeat reaches in a sound cluster of n.
// Heartbeats travel with one ack a second, so ages grow with n: in a simulation
// with 5 % of the packets lost the oldest age ever seen was 11 s among 10, 18 s
// among 64, 37 s among 128, 114 s among 512 and 250 s among 1,024.
func heartbeatLimit(n int) time.Duration {
	return 15*time.Second + time.Duration(n)*250*time.Millisecond
}
