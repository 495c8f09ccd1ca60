package lockclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// TryAcquire takes the lock name if it is free and nobody waits for it; else it
// returns a *HeldError. It does not wait, other than for Redis.
func (c *Client) TryAcquire(ctx context.Context, name string, opts ...Option) (*Lock, error) {
	l, err := c.acquire(ctx, name, false, opts)
	if err != nil {
		return nil, fmt.Errorf("acquire lock: %w", err)
	}
	return l, nil
}

// Acquire takes the lock name, and waits in its queue until it is its turn or
// ctx is done: then the error wraps ctx's cause. Waiters of all processes get
// it in the order in which they asked.
//
// When ctx's deadline has passed, the error also says what is known: it is a
// *HeldError if Redis said of late that others have the lock, and an
// *UnavailableError if Redis has not answered. This holds for TryAcquire, too.
//
// When Redis cannot do it at the first question, Acquire returns an
// *UnavailableError at once. A waiter that is in the queue already stays, asks
// again until Redis is back, and keeps its place.
func (c *Client) Acquire(ctx context.Context, name string, opts ...Option) (*Lock, error) {
	l, err := c.acquire(ctx, name, true, opts)
	if err != nil {
		return nil, fmt.Errorf("acquire lock: %w", err)
	}
	return l, nil
}

func (c *Client) acquire(ctx context.Context, name string, wait bool, opts []Option) (*Lock, error) {
	r, err := c.request(name, wait, opts)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) // before anything is sent, and has to be taken back
	}
	if c.closing.Load() || !c.begin() {
		return nil, ErrClosed
	}
	defer c.done()
	if ctx.Err() != nil {
		return c.obtain(ctx, r, wait) // it does not ask, so it knows nothing
	}
	l, err := c.obtain(ctx, r, wait)
	if err != nil {
		err = c.timeUp(ctx, r, err)
	}
	return l, err
}

// obtain asks for r's lock, and waits for it if it is to.
func (c *Client) obtain(ctx context.Context, r *request, wait bool) (*Lock, error) {
	if wait {
		c.enlist(r)
	}
	a, sent, ended, err := c.ask(ctx, r)
	switch {
	case err != nil:
		c.dismiss(r)
		if !untouched(err) {
			c.forget(r, ended)
		}
		return nil, err
	case a.held:
		l, err := c.granted(ctx, r, a.fence, a.since, sent, r.ttl)
		if errors.Is(err, errLate) {
			c.dismiss(r)
			c.forget(r, nil)
			err = explain(c.addr, err)
		}
		return l, err
	case !wait:
		v, _ := decodeValue(a.holder)
		return nil, &HeldError{Name: r.name, Holder: v.holder}
	}
	return c.wait(ctx, r, sent, a)
}

// lateGrants bounds how often a grant that arrived too late is asked for again:
// the first question may have paid for a connection, too.
const lateGrants = 3

// ask sends acquire.lua for r, at sent. After an error its outcome may not be
// known, nor final before ended, if that is not nil, is closed.
func (c *Client) ask(ctx context.Context, r *request) (a answer, sent moment, ended <-chan struct{}, err error) {
	for attempt := 1; ; attempt++ {
		if c.closing.Load() {
			return answer{}, sent, nil, ErrClosed
		}
		sent = now()
		var reply string
		reply, ended, err = c.call(ctx, 0, acquireScript, r.question())
		if err != nil {
			return answer{}, sent, ended, err
		}
		a, ok := decodeAnswer(reply)
		if !ok {
			return answer{}, sent, nil, errReply(acquireScript, reply)
		}
		if isForeign(a.holder) {
			return answer{}, sent, nil, c.foreign(r.keys[0])
		}
		if !a.held || attempt == lateGrants || sent.add(r.ttl-margin(r.ttl)).after(now()) {
			return a, sent, nil, nil
		}
	}
}

// notReached are the causes for which nothing was sent.
var notReached = []Cause{CauseRefused, CauseUnknown, CauseTLS, CauseStarted}

// untouched reports whether err means that Redis has not done anything: it said
// so, or was not reached.
func untouched(err error) bool {
	var u *UnavailableError
	if errors.As(err, &u) {
		return u.replied() || slices.Contains(notReached, u.Cause)
	}
	return false
}

// errLate: a grant took longer to arrive than it lasts. What r is to Redis is as
// it was: who asks again gets the lock, or the old place in its queue.
var errLate = fmt.Errorf("the grant did not arrive in time: %w", context.DeadlineExceeded)

// granted makes the lock of r, which was granted for span after sent, or later.
// It ends r unless it returns errLate.
func (c *Client) granted(ctx context.Context, r *request, fence uint64, since int64, sent moment, span time.Duration) (*Lock, error) {
	l := &Lock{c: c, r: r, place: -1, begun: time.Now(), fence: fence, until: sent.add(span - margin(span)), values: ctx}
	if r.limit != limitAlone {
		l.value = encodeValue(r.id, fence, since, r.meta)
	}
	// It is held before it no longer waits: at no time is its id unknown here.
	switch ok := l.start(); {
	case !ok && !c.closing.Load():
		return nil, fmt.Errorf("%w: within %v", errLate, span)
	case !ok:
		c.dismiss(r)
		c.forget(r, nil)
		return nil, ErrClosed
	}
	c.dismiss(r)
	if c.cfg.WaitReplicas > 0 {
		if err := c.confirm(ctx, l); err != nil {
			return nil, err
		}
	}
	c.health.acquired.Add(1)
	c.events.send(Event{Type: LockAcquired, Name: r.name, Fence: fence, Took: l.begun.Sub(r.began)})
	if c.takenEarly(l) {
		l.forced()
	}
	return l, nil
}

// forget takes r out of the queue and gives back what it may have been granted,
// in the background and with a context of its own, however long that takes up to
// the time to live, after which there is nothing left to undo. ended, if not
// nil, is closed when a question that was left open can do no more harm.
func (c *Client) forget(r *request, ended <-chan struct{}) {
	c.background(func() {
		if ended != nil {
			<-ended
		}
		ctx, cancel := context.WithTimeout(context.Background(), r.ttl)
		defer cancel()
		sure := ended != nil
		for attempt := 0; ; attempt++ {
			_, err := c.run(ctx, c.calls, leaveScript, r.farewell(""))
			switch {
			case err == nil && sure, errors.Is(err, ErrClosed):
				return
			case err == nil:
				// A question that timed out may be on its way still: once more.
				sure = true
			case lasting(err):
				return
			}
			if !c.pause(ctx, attempt) {
				return
			}
		}
	})
}

func lasting(err error) bool {
	var u *UnavailableError
	return errors.As(err, &u) && u.lasting()
}

// pause sleeps before the next attempt, longer each time, and reports whether
// there should be one: not when ctx is done or the client closes.
func (c *Client) pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(c.backoff(attempt))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-c.life.Done():
	}
	return false
}
