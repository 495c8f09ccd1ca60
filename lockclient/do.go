package lockclient

import (
	"context"
	"errors"
)

// Do runs f under the lock name: it waits for the lock as Acquire does, calls f
// and releases, also when f panics. The context that f gets ends with ctx, and
// when the lock is lost, with a *LostError as its cause: f must stop its work
// then. Do returns f's error joined with that of losing or releasing the lock,
// so that nil means: f succeeded, and held the lock to its end.
func (c *Client) Do(ctx context.Context, name string, f func(context.Context, *Lock) error, opts ...Option) (err error) {
	l, err := c.Acquire(ctx, name, opts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Release(ctx)) }()
	return l.run(ctx, f)
}
