package lockclient

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// detach calls f, which ends by itself, and returns what it returned; but when
// ctx is done before that, ctx's cause. Then f runs on, and ended is closed when
// it no longer does; else ended is nil.
func detach[T any](c *Client, ctx context.Context, f func(context.Context) (T, error)) (got T, ended <-chan struct{}, err error) {
	if ctx.Done() == nil {
		got, err = f(ctx)
		return got, nil, err
	}
	if ctx.Err() != nil {
		return got, nil, context.Cause(ctx)
	}
	var late T
	var failed error
	done := make(chan struct{})
	if !c.background(func() {
		defer close(done)
		late, failed = f(context.WithoutCancel(ctx))
	}) {
		return got, nil, ErrClosed
	}
	select {
	case <-done:
		return late, nil, failed
	case <-ctx.Done():
		return got, done, context.Cause(ctx)
	}
}

// call is run, but returns as soon as ctx is done, or a grace later, with ctx's
// cause. Then ended, if it is not nil, is closed when what was asked can do no
// more harm.
func (c *Client) call(ctx context.Context, grace time.Duration, s *script, args []any) (reply string, ended <-chan struct{}, err error) {
	if ctx.Done() == nil {
		reply, err = c.run(ctx, c.calls, s, args)
		return reply, nil, err
	}
	if ctx.Err() != nil && grace == 0 {
		return "", nil, context.Cause(ctx)
	}
	if !c.direct() {
		if grace > 0 {
			longer, cancel := outlast(ctx, grace)
			defer cancel()
			ctx = longer
		}
		return detach(c, ctx, func(ctx context.Context) (string, error) { return c.run(ctx, c.calls, s, args) })
	}
	q := c.questions.ask(ctx)
	stop := q.leaveAfter(ctx, grace)
	reply, err = c.run(q, c.calls, s, args)
	stop()
	if c.questions.end(q, err) {
		return "", q.ended, context.Cause(ctx)
	}
	return reply, nil, err
}

// outlast returns a context that ends a grace after ctx does, with its cause.
func outlast(ctx context.Context, grace time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(longer, func() { t.Stop() })
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

// broken reports whether err is that of a connection that was there before and
// broke, which a new one mends.
func broken(err error) bool {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// resend bounds how often a script is sent again because a connection from the
// pool turned out to be broken: after a restart of Redis several are.
const resend = 3

// exec processes cmd. Scripts are idempotent, so that one whose connection broke
// is sent again.
func (c *Client) exec(ctx context.Context, rdb redis.UniversalClient, s *script, cmd redis.Cmder) error {
	err := c.process(ctx, rdb, cmd)
	for range resend {
		if err == nil || !broken(err) || ctx.Err() != nil || c.closing.Load() {
			break
		}
		cmd.SetErr(nil)
		err = rdb.Process(ctx, cmd)
	}
	if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
		c.teach()
		return errSource
	}
	return err
}

// process sends cmd, in a batch with others where that pays.
func (c *Client) process(ctx context.Context, rdb redis.UniversalClient, cmd redis.Cmder) error {
	if rdb == c.calls && c.batches() {
		if q, ok := ctx.(*question); ok || ctx.Done() == nil {
			return c.batcher.process(ctx, q, cmd)
		}
	}
	return rdb.Process(ctx, cmd)
}

// batches reports whether calls are worth being sent together.
func (c *Client) batches() bool { return c.questions.floor.Load() < int64(batchBelow) }
