package lockclient

import (
	"context"
	"errors"
)

// Do runs f under the lock name: it waits for the lock as Acquire does, calls f
// and releases. The context that f gets ends with ctx, and when the lock is
// lost, with a *LostError as its cause; f must stop its work then. Do returns f's
// error joined with that of losing or releasing the lock.
func (c *Client) Do(ctx context.Context, name string, f func(context.Context, *Lock) error, opts ...Option) (err error) {
	l, err := c.Acquire(ctx, name, opts...)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(l.Context(), func() { cancel(context.Cause(l.Context())) })()
	defer func() {
		// Also when f panics.
		err = errors.Join(err, l.Release(ctx))
		cancel(nil)
	}()
	return f(inner, l)
}
