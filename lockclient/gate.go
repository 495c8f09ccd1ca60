package lockclient

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A dialGate keeps failing dials to about one a second for the whole client.
// Those in between fail at once with the last error. It has no goroutine.
type dialGate struct {
	shut atomic.Bool // since failed, until answered

	mu      sync.Mutex
	tokens  float64
	refill  time.Time
	lastErr error
}

const (
	dialBurst = 3.0 // failing dials in one instant
	dialRate  = 1.0 // and then a second
)

func (g *dialGate) dial(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	if err := g.enter(time.Now()); err != nil {
		return nil, err
	}
	conn, err := dial()
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		g.failed(err)
	}
	return conn, err
}

// enter takes a token, or returns the last error when there is none.
func (g *dialGate) enter(now time.Time) error {
	if !g.shut.Load() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tokens = min(dialBurst, g.tokens+dialRate*now.Sub(g.refill).Seconds())
	g.refill = now
	if g.tokens < 1 {
		return g.lastErr
	}
	g.tokens--
	return nil
}

// failed shuts the gate: a dial, or the handshake after it, went wrong.
func (g *dialGate) failed(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut.Load() {
		g.tokens, g.refill = dialBurst-1, time.Now()
	}
	g.lastErr = err
	g.shut.Store(true)
}

// answered opens the gate: a command went through.
func (g *dialGate) answered() {
	if g.shut.Load() {
		g.shut.Store(false)
	}
}
