package lockclient

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

//go:embed *.lua
var luaFiles embed.FS

var (
	acquireScript = newScript("acquire.lua")
	releaseScript = newScript("release.lua")
	renewScript   = newScript("renew.lua")
	beatScript    = newScript("beat.lua")
	inspectScript = newScript("inspect.lua")
	forceScript   = newScript("force.lua")
)

// newScript reads a script with the files it includes, without comments: the
// server keeps the text, and hashes it.
func newScript(file string) *redis.Script { return redis.NewScript(luaSource(file)) }

func luaSource(file string) string {
	b, err := luaFiles.ReadFile(file)
	if err != nil {
		panic(err) // it is embedded
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		trimmed := strings.TrimSpace(line)
		if include, ok := strings.CutPrefix(trimmed, "--#include "); ok {
			out.WriteString(luaSource(include))
		} else if trimmed != "" && !strings.HasPrefix(trimmed, "--") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// run runs s and returns its reply, or what explain makes of the error. It goes
// on when ctx is cancelled, and ends when ctx's deadline passes. Scripts are
// idempotent, so that one whose connection broke is sent again, once.
func (c *Client) run(ctx context.Context, rdb *redis.Client, s *redis.Script, keys []string, args ...any) ([]any, error) {
	reply, err := s.Run(ctx, rdb, keys, args...).Slice()
	if err != nil && broken(err) && ctx.Err() == nil && !c.closing.Load() {
		reply, err = s.Run(ctx, rdb, keys, args...).Slice()
	}
	err = explain(c.addr, err)
	c.heard(ctx, err)
	return reply, err
}

// call is run, but returns as soon as ctx is done. The script may then still
// run: ended is closed when it no longer does, and is nil when it has ended.
func (c *Client) call(ctx context.Context, s *redis.Script, keys []string, args ...any) (reply []any, ended <-chan struct{}, err error) {
	if ctx.Done() == nil {
		reply, err = c.run(ctx, c.calls, s, keys, args...)
		return reply, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if !c.begin() {
		return nil, nil, ErrClosed
	}
	var got []any
	var failed error
	done := make(chan struct{})
	go func() {
		defer c.done()
		defer close(done)
		got, failed = c.run(context.WithoutCancel(ctx), c.calls, s, keys, args...)
	}()
	select {
	case <-done:
		return got, nil, failed
	case <-ctx.Done():
		return nil, done, context.Cause(ctx)
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

// errReply is what a reply of another shape than its script's makes.
func errReply(what string, reply any) error {
	return fmt.Errorf("decode the answer of %s: unexpected %v", what, reply)
}
