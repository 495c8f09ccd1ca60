package testcluster

import (
	"sync"
	"time"
)

// deadline is a moment at which waiters on a condition are woken.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

// set moves the deadline. The caller holds cond.L.
func (d *deadline) set(at time.Time, cond *sync.Cond) {
	d.stop()
	d.at = at
	if at.IsZero() {
		return
	}
	if wait := time.Until(at); wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			cond.L.Lock()
			defer cond.L.Unlock()
			cond.Broadcast()
		})
		return
	}
	cond.Broadcast()
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
