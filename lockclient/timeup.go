package lockclient

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// timeUp says what a wait that its context's deadline has ended knows. err is what
// the wait ended with; another error is returned as it is.
//
// The lock is known to be held as long as the last answer that said so is younger
// than a claim: after that Redis has forgotten the place, too. Then the error is a
// *HeldError. Else nothing is known, and it is an *UnavailableError. Both wrap
// ctx's cause.
func (c *Client) timeUp(ctx context.Context, r *request, err error) error {
	cause := context.Cause(ctx)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(err, cause) {
		return err
	}
	c.mu.Lock()
	asked, position, holder := r.asked, r.position, r.holder
	c.mu.Unlock()
	silent := time.Since(r.began)
	if !asked.t.IsZero() {
		if silent = now().sub(asked); silent < r.claim {
			v, _ := decodeValue(holder)
			return &HeldError{Name: r.name, Holder: v.holder, Position: position, Cause: cause}
		}
	}
	none := fmt.Errorf("no answer for %v: %w", silent.Round(time.Millisecond), cause)
	c.health.mu.Lock()
	last := c.health.lastErr
	c.health.mu.Unlock()
	var u *UnavailableError
	if !c.health.up.Load() && errors.As(last, &u) {
		return &UnavailableError{Addr: c.addr, Cause: u.Cause, Fix: u.Fix, Err: fmt.Errorf("%w; %w", none, u.Err)}
	}
	return &UnavailableError{Addr: c.addr, Cause: CauseTimeout, Fix: "check the network and the load of that host", Err: none}
}
