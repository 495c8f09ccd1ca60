package lockclient

import (
	"sync/atomic"
	"time"
)

// margin is what a holder stops before its time to live is over, for clocks
// that do not run equally fast and for the milliseconds that Redis counts in.
func margin(ttl time.Duration) time.Duration { return max(ttl/100, 2*time.Millisecond) }

// A moment is a reading of the monotonic clock and of how long this machine had
// been suspended by then, which that clock does not count.
type moment struct {
	t     time.Time
	slept time.Duration // since boot
}

var (
	began   = time.Now()
	parting atomic.Int64 // of the wall clock from the monotonic one, since began
	slept   atomic.Int64 // suspended(), when they last parted
)

func init() { slept.Store(int64(suspended())) }

// minSleep is how far two readings of clocks may be apart without a suspend.
const minSleep = 10 * time.Millisecond

// now reads the clock. A suspend moves the wall clock and not the monotonic one:
// only when they have parted, by that or because somebody set the wall clock, is
// the system asked, for that takes longer than all the rest.
func now() moment {
	t := time.Now()
	p := t.Round(0).Sub(began.Round(0)) - t.Sub(began)
	if moved := p - time.Duration(parting.Load()); moved > minSleep || moved < -minSleep {
		slept.Store(int64(suspended()))
		parting.Store(int64(p))
	}
	return moment{t, time.Duration(slept.Load())}
}

func (m moment) add(d time.Duration) moment { m.t = m.t.Add(d); return m }

// sub returns m - u.
func (m moment) sub(u moment) time.Duration {
	d := m.t.Sub(u.t)
	if more := m.slept - u.slept; more > minSleep || more < -minSleep {
		d += more
	}
	return d
}

func (m moment) after(u moment) bool { return m.sub(u) > 0 }
