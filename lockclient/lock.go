package lockclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// releaseGrace is how long Release goes on when its context is done.
const releaseGrace = 2 * time.Second

// A Lock is held until it is released or lost. Its methods may be called from
// any goroutine.
//
// It has no goroutine: its client's timer wakes it when a renewal is due and at
// the deadline, whatever the network does.
type Lock struct {
	c      *Client
	r      *request
	fence  uint64
	value  string          // of a shared hold
	values context.Context // what its context inherits values from
	begun  time.Time       // when its holder got it

	mu      sync.Mutex
	state   lockState
	until   moment // valid until then
	err     error  // why it is no longer held
	ctx     context.Context
	cancel  context.CancelCauseFunc
	lost    chan struct{}
	due     moment // of the next renewal
	settled bool
	byHand  bool // only Renew renews it
	tries   int  // renewals under way
	queued  bool // one of them waits to be sent
	attempt int  // failed ones in a row

	// Guarded by alarms.mu.
	alarm time.Time
	place int // among the alarms; -1 for none

	release    sync.Once
	releaseErr error
}

type lockState int

const (
	stateHeld lockState = iota
	stateReleased
	stateLost
)

// maxTries bounds the renewals of one lock that are under way.
const maxTries = 4

// settleAfter is how long a hold lasts before it settles in: its process listens
// for a ForceRelease, and has a connection for renewals. Shorter holds are not
// worth that.
const settleAfter = 100 * time.Millisecond

// start sets the first alarm; false if l is over already, or the client closes.
func (l *Lock) start() bool {
	t := now()
	left := l.until.sub(t)
	if left <= 0 {
		return false
	}
	first := min(left/3, settleAfter)
	l.due = t.add(first)
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.closing.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.held[l.r.id] = l
	l.r.ear = l.c.lend(l.r)
	l.c.alarms.set(l, l.due.t)
	return true
}

// Name returns the lock's name.
func (l *Lock) Name() string { return l.r.name }

// Fence returns the fencing token of this hold: greater than that of any hold
// of this lock before. Give it to what the lock protects, to refuse those that
// come with a smaller one.
func (l *Lock) Fence() uint64 { return l.fence }

// Context ends when the lock is lost, with a *LostError (ErrLost) as its cause,
// or released, with ErrReleased. It has the values of the context that the lock
// was acquired with, but not its end: that bounded the wait.
func (l *Lock) Context() context.Context {
	l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(l.values))
		if l.state != stateHeld {
			l.cancel(l.err)
		}
	}
	return l.ctx
}

// look ends l when its time is over. A process that was stopped may ask before
// the alarm has rung.
func (l *Lock) look() {
	l.mu.Lock()
	if l.state == stateHeld && !l.until.after(now()) {
		l.lose(ErrExpired, true) // unlocks
		return
	}
	l.mu.Unlock()
}

// Lost returns a channel that is closed when the lock is lost, not when it is
// released.
func (l *Lock) Lost() <-chan struct{} {
	l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = make(chan struct{})
		if l.state == stateLost {
			close(l.lost)
		}
	}
	return l.lost
}

// Deadline returns until when nobody else can hold the lock, unless it is
// renewed: each renewal moves it.
func (l *Lock) Deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until.t
}

// Valid reports whether the lock is held. It asks the clock, not the network,
// and is cheap enough to call before every write.
func (l *Lock) Valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == stateHeld && l.until.after(now())
}

// Err returns nil while the lock is held, then why it no longer is: ErrReleased
// or a *LostError.
func (l *Lock) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// lose ends l, which is held, because of reason, and then gives back what the
// server may still hold for it. The caller holds l.mu, which lose unlocks.
func (l *Lock) lose(reason error, tidy bool) {
	l.state = stateLost
	l.err = &LostError{Name: l.r.name, Fence: l.fence, Reason: reason}
	l.c.alarms.unset(l)
	if l.cancel != nil {
		l.cancel(l.err)
	}
	if l.lost != nil {
		close(l.lost)
	}
	l.mu.Unlock()
	l.c.drop(l)
	l.c.countLost(reason)
	l.c.events.send(l.event(LockLost, reason))
	if tidy {
		l.c.forget(l.r, nil)
	}
}

// drop takes l out of what the client holds.
func (c *Client) drop(l *Lock) {
	c.mu.Lock()
	delete(c.held, l.r.id)
	c.giveBack(l.r)
	c.mu.Unlock()
}

// Release gives the lock back and calls the next waiter. It ends Context first.
// It returns a *LostError when the lock was no longer held, and an
// *UnavailableError when Redis does not answer: the lock then expires by itself,
// or is given back as soon as Redis does. Release works when ctx is done, for two
// seconds. Later calls return what the first did.
func (l *Lock) Release(ctx context.Context) error {
	l.release.Do(func() { l.releaseErr = l.giveBack(ctx) })
	return l.releaseErr
}

func (l *Lock) giveBack(ctx context.Context) error {
	l.mu.Lock()
	if l.state == stateLost {
		defer l.mu.Unlock()
		return l.err
	}
	l.state = stateReleased
	l.err = ErrReleased
	l.c.alarms.unset(l)
	if l.cancel != nil {
		l.cancel(l.err)
	}
	l.mu.Unlock()
	l.c.drop(l)

	s, args := releaseScript, append(l.r.args[:argOwn], &l.r.id)
	if l.r.limit != limitAlone {
		s, args = leaveScript, l.r.farewell(l.value)
	}
	reply, ended, err := l.c.call(ctx, releaseGrace, s, args)
	if err == nil {
		err = decodeOutcome(s, reply)
	} else if !errors.Is(err, ErrClosed) {
		l.c.forget(l.r, ended)
	}
	switch {
	case err == nil:
		l.c.events.send(l.event(LockReleased, nil))
	case errors.Is(err, ErrExpired), errors.Is(err, ErrStolen):
		l.c.events.send(l.event(LockLost, err))
		l.c.countLost(err)
		err = &LostError{Name: l.r.name, Fence: l.fence, Reason: err}
	default:
		err = fmt.Errorf("release lock %q: %w", l.r.name, err)
		l.c.events.send(l.event(LockReleased, err))
	}
	return err
}

// event tells of l's end, because of reason, if that is not nil.
func (l *Lock) event(t EventType, reason error) Event {
	e := Event{Type: t, Name: l.r.name, Fence: l.fence, Took: time.Since(l.begun)}
	if reason != nil {
		e.Reason = reason.Error()
	}
	return e
}
