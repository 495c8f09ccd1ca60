package lockclient

import "time"

// margin is what a holder stops before its time to live is over, for clocks
// that do not run equally fast and for the milliseconds that Redis counts in.
func margin(ttl time.Duration) time.Duration { return max(ttl/100, 2*time.Millisecond) }

// A moment is a reading of the monotonic clock that also counts the time that
// this machine was suspended, which time.Time does not.
type moment struct {
	t         time.Time
	suspended time.Duration // since boot
}

func now() moment { return moment{time.Now(), suspended()} }

func (m moment) add(d time.Duration) moment { m.t = m.t.Add(d); return m }

// sub returns m - u. What two readings of the clocks differ by is no sleep.
func (m moment) sub(u moment) time.Duration {
	d := m.t.Sub(u.t)
	if slept := m.suspended - u.suspended; slept > 10*time.Millisecond || slept < -10*time.Millisecond {
		d += slept
	}
	return d
}

func (m moment) after(u moment) bool { return m.sub(u) > 0 }
