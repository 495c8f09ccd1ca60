package lockclient

import (
	"context"
	"errors"
	"fmt"
)

// Elect has lead run on exactly one of all who call Elect with this name, for as
// long as that one lives. It waits until it is elected, then calls lead with a
// context that ends with ctx, and when the office is lost: then lead must
// return, and Elect stands for election again. Elect returns when lead returns
// by itself, with what it returned, and the office goes to the next; or when ctx
// is done, with its cause. While Redis cannot be reached, or its replicas, it
// tries again, and returns only what waiting does not mend.
//
// Two leaders overlap only where two holders of a lock would, see the package
// documentation; what they write, Fence tells apart.
func (c *Client) Elect(ctx context.Context, name string, lead func(context.Context, *Lock) error, opts ...Option) error {
	for attempt := 0; ; attempt++ {
		l, err := c.Acquire(ctx, name, opts...)
		if err != nil {
			var u *UnavailableError
			mends := errors.As(err, &u) && !u.lasting() || errors.Is(err, ErrNotReplicated)
			if ctx.Err() == nil && mends && c.pause(ctx, attempt) {
				continue
			}
			if ctx.Err() == nil && c.closing.Load() {
				err = ErrClosed
			}
			return fmt.Errorf("elect for %q: %w", name, err)
		}
		attempt = 0
		err = l.run(ctx, lead)
		if ctx.Err() != nil || l.Err() == nil || !errors.Is(l.Err(), ErrLost) {
			return errors.Join(err, l.Release(ctx))
		}
		c.cfg.Logger.Warn("office lost", "lock", name, "fence", l.fence, "err", l.Err())
		// Whoever is elected now is not to be met by the same trouble at once.
		if !c.pause(ctx, 0) {
			return fmt.Errorf("elect for %q: %w", name, context.Cause(ctx))
		}
	}
}

// run calls f with a context that ends with ctx and with l.
func (l *Lock) run(ctx context.Context, f func(context.Context, *Lock) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.Context(), func() { cancel(context.Cause(l.Context())) })()
	return f(inner, l)
}
