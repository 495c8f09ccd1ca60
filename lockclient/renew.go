package lockclient

import (
	"context"
	"errors"
	"time"
)

// tick runs when l's alarm rings: the deadline has come, or a renewal is due.
func (l *Lock) tick() {
	c := l.c
	if !c.begin() {
		return
	}
	defer c.done()
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return
	}
	t := now()
	left := l.until.sub(t)
	switch {
	case left <= 0:
		l.lose(ErrExpired, true) // unlocks
	case l.due.after(t):
		l.arm() // renewed while it rang
		l.mu.Unlock()
	case !l.settled && (l.byHand || c.renewals.PoolStats().IdleConns > 0):
		l.settled = true
		l.due = t.add(left / 3)
		if l.byHand {
			l.due = l.until
		}
		l.arm()
		l.mu.Unlock()
		l.r.ear.open()
	default:
		// The first renewal comes early when there is no connection for it yet:
		// making one may take longer than an answer.
		settle := !l.settled
		l.settled = true
		// If there is no answer within a sixth of the time to live, ask again
		// beside the open question, on another connection: an answer may take
		// its time, a dead connection may not.
		l.due = t.add(l.r.ttl / 6)
		l.arm()
		if l.tries >= maxTries {
			l.mu.Unlock()
			return
		}
		l.tries++
		l.mu.Unlock()
		if settle {
			l.r.ear.open()
		}
		// It may outlast what is left now: another one may come in time, and a
		// connection that is cut off in an answer would be missed by the next.
		l.renew(l.r.ttl)
	}
}

// hurry has l renewed now, unless that is its caller's to do.
func (l *Lock) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == stateHeld && l.settled && !l.byHand {
		t := now()
		l.due = t
		l.arm()
	}
}

// arm sets the alarm. The caller holds l.mu.
func (l *Lock) arm() {
	at := l.until.t
	if l.due.t.Before(at) {
		at = l.due.t
	}
	l.c.alarms.set(l, at)
}

// renew asks once, and waits for the answer for patience. It returns nil, a
// *LostError or why there is no answer.
func (l *Lock) renew(patience time.Duration) error {
	c := l.c
	ctx, cancel := context.WithTimeout(c.life, patience)
	sent := now()
	s, args := l.renewal()
	reply, err := c.run(ctx, c.renewals, s, args)
	cancel()
	if err == nil {
		err = decodeOutcome(s, reply)
	}

	l.mu.Lock()
	l.tries--
	if l.state != stateHeld {
		defer l.mu.Unlock()
		return l.err // too late: it revives nothing
	}
	var u *UnavailableError
	switch {
	case !l.until.after(now()):
		l.lose(ErrExpired, true)
	case err == nil:
		l.extend(sent)
		l.mu.Unlock()
		c.health.renewed.Add(1)
		return nil
	case errors.Is(err, ErrExpired), errors.Is(err, ErrStolen):
		l.lose(err, false)
	case errors.As(err, &u) && u.Cause == CauseWrongType:
		l.lose(err, false)
	default:
		// The deadline decides. Until then try again, not all at one time.
		if t := now(); !l.byHand {
			l.due = t.add(min(c.backoff(l.attempt), l.r.ttl/6))
			l.attempt++
			l.arm()
		}
		l.mu.Unlock()
		c.health.renewFailed.Add(1)
		return err
	}
	return l.Err()
}

// renewal returns the script that renews l, and its arguments.
func (l *Lock) renewal() (*script, []any) {
	args := arguments(&l.r.keys, 2)
	args[argOwn], args[argOwn+1] = &l.r.id, &l.r.ttlMS
	if l.r.limit == limitAlone {
		return renewScript, args
	}
	args[argOwn] = &l.value
	return renewSharedScript, args
}

// renewed is extend for one who does not hold l.mu.
func (l *Lock) renewed(sent moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == stateHeld && l.until.after(now()) {
		l.extend(sent)
	}
}

// abandon ends l, which nobody has been given, and gives it back.
func (l *Lock) abandon(ended <-chan struct{}) {
	l.mu.Lock()
	held := l.state == stateHeld
	if held {
		l.state, l.err = stateReleased, ErrReleased
		l.c.alarms.unset(l)
	}
	l.mu.Unlock()
	if held {
		l.c.drop(l)
		l.c.forget(l.r, ended)
	}
}

// extend moves the deadline after a renewal that was sent at sent. The caller
// holds l.mu.
func (l *Lock) extend(sent moment) {
	l.attempt = 0
	until := sent.add(l.r.ttl - margin(l.r.ttl))
	if !until.after(l.until) {
		return // an older question, answered late
	}
	l.until = until
	t := now()
	if left := until.sub(t); l.byHand {
		l.due = until
	} else {
		l.due = t.add(left/3 + jitter(left/60))
	}
	l.arm()
}

// forced runs when ForceRelease took l away.
func (l *Lock) forced() {
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return
	}
	l.lose(ErrForced, false)
}

// perish ends l with its client, which can no longer give it back.
func (l *Lock) perish() {
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return
	}
	l.lose(ErrClosed, false)
}
