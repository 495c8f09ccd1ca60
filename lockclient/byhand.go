package lockclient

import (
	"context"
	"errors"
	"fmt"
)

// ByHand leaves the renewing of l to its caller, who calls ByHand before doing
// anything else with it: l then ends a time to live after the grant or the last
// Renew. It is for a lock that is held for somebody else, who has to show a sign
// of life to keep it.
func (l *Lock) ByHand() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.byHand = true
	if l.settled && l.state == stateHeld {
		l.due = l.until
		l.arm()
	}
}

// Renew asks Redis to keep l for a whole time to live from now on, see Deadline.
// It returns a *LostError when l is lost, and an *UnavailableError when Redis
// does not do it: l is then held until its Deadline, and Renew may be called
// again. When ctx is done it returns its cause; the renewal may come about.
func (l *Lock) Renew(ctx context.Context) error {
	_, _, err := detach(l.c, ctx, func(context.Context) (struct{}, error) { return struct{}{}, l.renewNow() })
	var lost *LostError
	if err == nil || errors.As(err, &lost) {
		return err
	}
	return fmt.Errorf("renew lock %q: %w", l.r.name, err)
}

func (l *Lock) renewNow() error {
	l.mu.Lock()
	if l.state != stateHeld {
		defer l.mu.Unlock()
		return l.err
	}
	left := l.until.sub(now())
	if left <= 0 {
		l.lose(ErrExpired, true) // unlocks
		return l.Err()
	}
	if l.tries >= maxTries {
		l.mu.Unlock()
		return explain(l.c.addr, fmt.Errorf("%d renewals are without an answer: %w", maxTries, context.DeadlineExceeded))
	}
	l.tries++
	l.mu.Unlock()
	return l.renew(left)
}
