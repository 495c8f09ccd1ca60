package lockclient

import (
	"context"
	"errors"
)

// renew runs when the renewal timer fires, on a goroutine of that timer. It asks
// at a third of what is left, and when there is no answer within a sixth of the
// time to live, asks again beside the open question, on another connection: an
// answer may take its time, a dead connection may not.
func (l *Lock) renew() {
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
	if !c.ear.opened.Load() {
		// The first time, a little after the grant.
		l.renewal.Reset(l.until.sub(now()) / 3)
		l.mu.Unlock()
		c.openEar()
		return
	}
	l.renewal.Reset(l.r.ttl / 6)
	if l.tries >= maxTries {
		l.mu.Unlock()
		return
	}
	l.tries++
	left := l.until.sub(now())
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(c.life, left)
	sent := now()
	reply, err := c.run(ctx, c.renewals, renewScript, l.r.keys[:1], l.r.id, l.r.ttl.Milliseconds())
	cancel()
	if err == nil {
		err = decodeOutcome("renew.lua", reply)
	}

	l.mu.Lock()
	l.tries--
	if l.state != stateHeld {
		l.mu.Unlock() // too late: it revives nothing
		return
	}
	var u *UnavailableError
	switch {
	case !l.until.after(now()):
		l.lose(ErrExpired, true)
	case err == nil:
		l.extend(sent)
		l.mu.Unlock()
		c.health.renewed.Add(1)
	case errors.Is(err, ErrExpired), errors.Is(err, ErrStolen):
		l.lose(err, false)
	case errors.As(err, &u) && u.Cause == CauseWrongType:
		l.lose(err, false)
	default:
		// The deadline decides. Until then try again, not all at one time.
		l.renewal.Reset(min(c.backoff(l.attempt), l.r.ttl/6))
		l.attempt++
		l.mu.Unlock()
		c.health.renewFailed.Add(1)
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
	left := until.sub(now())
	l.deadline.Reset(left)
	l.renewal.Reset(left/3 + jitter(left/60))
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
