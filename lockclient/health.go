package lockclient

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// pingEvery is how often an idle client asks whether Redis is there, and
// pingTimeout what it gives it to answer.
const (
	pingEvery   = 2 * time.Second
	pingTimeout = 2 * time.Second
)

// Stats is what a client knows of itself and of Redis.
type Stats struct {
	Addr      string        // of Redis, without credentials
	Up        bool          // Redis answered the last question
	Latency   time.Duration // of the last answer to a ping; 0 until there was one
	LastError error         // why it is not up, or what was wrong last; nil when it never was
	Held      int           // locks held
	Waiting   int           // waiters in queues

	Acquired, Lost       uint64 // since the start
	Renewed, RenewFailed uint64
}

// health keeps what Stats reports.
type health struct {
	up          atomic.Bool
	latency     atomic.Int64
	floor       atomic.Int64 // of latency, creeping up
	acquired    atomic.Uint64
	lost        atomic.Uint64
	renewed     atomic.Uint64
	renewFailed atomic.Uint64

	mu      sync.Mutex
	known   bool // up or down was told
	lastErr error
}

// Stats returns what the client knows now. It asks nobody.
func (c *Client) Stats() Stats {
	s := Stats{
		Addr: c.addr, Up: c.health.up.Load(), Latency: time.Duration(c.health.latency.Load()),
		Acquired: c.health.acquired.Load(), Lost: c.health.lost.Load(),
		Renewed: c.health.renewed.Load(), RenewFailed: c.health.renewFailed.Load(),
	}
	c.health.mu.Lock()
	s.LastError = c.health.lastErr
	c.health.mu.Unlock()
	c.mu.Lock()
	s.Held, s.Waiting = len(c.held), 0
	for _, q := range c.queues {
		s.Waiting += len(q.waiters)
	}
	c.mu.Unlock()
	return s
}

// heard takes note of the outcome of a call under ctx.
func (c *Client) heard(ctx context.Context, err error) {
	if err == nil {
		c.gate.answered()
		if !c.health.up.Load() {
			c.turn(nil)
		}
		return
	}
	var u *UnavailableError
	switch {
	case !errors.As(err, &u), errors.Is(context.Cause(ctx), context.Canceled):
		return // not Redis's fault
	case u.Cause == CausePassword:
		c.gate.failed(u.Err)
	case u.Cause == CauseWrongType:
		c.gate.answered()
		return // one key's trouble
	}
	c.health.mu.Lock()
	c.health.lastErr = err
	c.health.mu.Unlock()
	c.turn(err)
}

// turn tells that Redis went, or came back.
func (c *Client) turn(err error) {
	if c.closing.Load() {
		return
	}
	c.health.mu.Lock()
	up := err == nil
	if c.health.known && c.health.up.Load() == up {
		c.health.mu.Unlock()
		return
	}
	first := !c.health.known
	c.health.known = true
	c.health.up.Store(up)
	if up {
		c.events.send(Event{Type: RedisUp})
	} else {
		c.events.send(Event{Type: RedisDown, Reason: err.Error()})
	}
	c.health.mu.Unlock()
	switch {
	case !up:
		c.cfg.Logger.Warn("redis is down", "addr", c.addr, "err", err)
	case !first:
		c.cfg.Logger.Info("redis is back", "addr", c.addr)
	}
}

// watchHealth pings Redis when nothing else was asked of it, on the connection
// that the next renewal will use.
func (c *Client) watchHealth() {
	t := time.NewTimer(0)
	defer t.Stop()
	asleep := suspended()
	for {
		select {
		case <-c.life.Done():
			return
		case <-t.C:
		}
		if s := suspended(); s-asleep > minSleep {
			asleep = s
			slept.Store(int64(s))
			c.wokeUp()
		}
		c.ping()
		t.Reset(pingEvery + jitter(pingEvery/10))
	}
}

func (c *Client) ping() {
	ctx, cancel := context.WithTimeout(c.life, pingTimeout)
	defer cancel()
	start := time.Now()
	err := c.renewals.Ping(ctx).Err()
	if err == nil {
		took := int64(time.Since(start))
		c.health.latency.Store(took)
		floor := c.health.floor.Load()
		if floor += floor / 10; floor == 0 || took < floor {
			floor = took
		}
		c.health.floor.Store(floor)
	}
	if r := redis.Error(nil); errors.As(err, &r) && redis.HasErrorPrefix(err, "NOPERM") {
		err = nil // it answers; a user without the right to ping may still lock
	}
	c.heard(c.life, explain(c.addr, err))
}

// wokeUp runs after this machine was suspended: the timers of the holds stood
// still, their deadlines did not.
func (c *Client) wokeUp() {
	c.mu.Lock()
	held := make([]*Lock, 0, len(c.held))
	for _, l := range c.held {
		held = append(held, l)
	}
	c.mu.Unlock()
	for _, l := range held {
		l.tick()
	}
}

// backoff is the pause after a failed attempt: longer each time, up to a second
// and a half, and never the same for two clients.
func (c *Client) backoff(attempt int) time.Duration {
	d := 100 * time.Millisecond << min(attempt, 4)
	d = min(d, time.Second)
	return d/2 + jitter(d)
}

// jitter returns a random duration below d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
