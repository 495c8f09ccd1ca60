package lockclient

import (
	"container/heap"
	"sync"
	"time"
)

// alarms wakes locks at their time, all with one timer: setting one of its own
// for each lock would wake a thread for many a hold that is over long before.
// For the same reason taking an alarm off leaves the timer as it is.
//
// It has no goroutine but the timer's, which wakes all whose time has come.
type alarms struct {
	wake func([]*Lock) // the client's

	mu    sync.Mutex
	locks alarmHeap
	timer *time.Timer
	rings time.Time // when the timer fires; zero when it is not set
}

// set has l woken at at, instead of when it was set to before.
func (a *alarms) set(l *Lock, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l.alarm = at
	if l.place < 0 {
		heap.Push(&a.locks, l)
	} else {
		heap.Fix(&a.locks, l.place)
	}
	a.wind()
}

// unset takes l's alarm off.
func (a *alarms) unset(l *Lock) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.place >= 0 {
		heap.Remove(&a.locks, l.place)
	}
}

// wind sets the timer for the first alarm. The caller holds a.mu.
func (a *alarms) wind() {
	if len(a.locks) == 0 || !a.rings.IsZero() && !a.locks[0].alarm.Before(a.rings) {
		return
	}
	a.rings = a.locks[0].alarm
	d := max(time.Until(a.rings), 0)
	if a.timer == nil {
		a.timer = time.AfterFunc(d, a.ring)
	} else {
		a.timer.Reset(d)
	}
}

// ring wakes all whose time has come.
func (a *alarms) ring() {
	a.mu.Lock()
	a.rings = time.Time{}
	a.mu.Unlock()
	a.wake(a.until(time.Now()))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wind()
}

// until takes those out whose alarm is not after t, and returns them.
func (a *alarms) until(t time.Time) (locks []*Lock) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.locks) > 0 && !a.locks[0].alarm.After(t) {
		locks = append(locks, heap.Pop(&a.locks).(*Lock))
	}
	return locks
}

// stop ends the timer.
func (a *alarms) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
}

// alarmHeap has the lock to be woken first on top. A lock knows its place in it.
type alarmHeap []*Lock

func (h alarmHeap) Len() int           { return len(h) }
func (h alarmHeap) Less(i, j int) bool { return h[i].alarm.Before(h[j].alarm) }
func (h alarmHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is heap.Interface's.
func (h *alarmHeap) Push(x any) {
	l := x.(*Lock)
	l.place = len(*h)
	*h = append(*h, l)
}

// Pop is heap.Interface's.
func (h *alarmHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	l.place = -1
	return l
}
