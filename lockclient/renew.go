package lockclient

import (
	"context"
	"time"
)

// tick runs when l's alarm rings: the deadline has come, or a renewal is due. It
// reports whether a renewal has to be sent. One that is due within soon is due.
func (l *Lock) tick(soon time.Duration) bool {
	c := l.c
	l.mu.Lock()
	if l.state != stateHeld {
		l.mu.Unlock()
		return false
	}
	t := now()
	if !l.until.after(t) {
		l.lose(ErrExpired, true) // unlocks
		return false
	}
	settle := !l.settled && !l.due.after(t)
	if settle {
		l.settled = true
		// The first renewal comes early when there is no connection for it yet:
		// making one may take longer than an answer.
		if l.byHand || c.renewals.PoolStats().IdleConns > 0 {
			l.due = l.next()
		}
	}
	if !l.settled {
		soon = 0 // most are over before they settle
	}
	renew := !l.due.after(t.add(soon))
	if renew {
		// If there is no answer within a sixth of the time to live, ask again
		// beside the open question, on another connection: an answer may take
		// its time, a dead connection may not.
		l.due = t.add(l.r.ttl / 6)
		if renew = l.tries < maxTries && !l.queued; renew {
			l.tries++
			l.queued = true
		}
	}
	l.arm()
	l.mu.Unlock()
	if settle {
		l.r.ear.open()
	}
	return renew
}

// next returns when l is to be renewed: when less than two thirds of a whole time
// to live are left, so that a grant for less, which a waiter gets, is made a
// whole one as soon as it settles. The caller holds l.mu.
func (l *Lock) next() moment {
	if l.byHand {
		return l.until
	}
	return l.until.add(-l.r.ttl * 2 / 3)
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
	ctx, cancel := context.WithTimeout(l.c.life, patience)
	defer cancel()
	sent := now()
	s, args := l.renewal()
	reply, err := l.c.run(ctx, l.c.renewals, s, args)
	return l.answered(sent, s, reply, err)
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
	l.due = l.next()
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
