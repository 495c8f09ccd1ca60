package lockclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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
	maxPings    = 2 // under way at one time
	firstPing   = 20 * time.Millisecond
)

// Stats is what a client knows of itself and of Redis.
type Stats struct {
	Addr      string        // of Redis, without credentials
	Up        bool          // Redis answered the last question
	Latency   time.Duration // of the last answer to a ping; 0 until there was one
	LastError error         // why it is not up, or what it refuses; nil when all is well
	Held      int           // locks held
	Waiting   int           // waiters in queues

	// Counts since the start.
	Acquired, Lost          uint64
	Expired, Stolen, Forced uint64 // of Lost; the rest had its key replaced
	Renewed, RenewFailed    uint64
}

// health keeps what Stats reports.
type health struct {
	up          atomic.Bool
	told        atomic.Bool // that it is up, or down
	troubled    atomic.Bool // not known to be up, or lastErr is set
	latency     atomic.Int64
	answered    atomic.Int64 // when Redis answered last, since began
	acquired    atomic.Uint64
	lost        atomic.Uint64
	expired     atomic.Uint64
	stolen      atomic.Uint64
	forced      atomic.Uint64
	renewed     atomic.Uint64
	renewFailed atomic.Uint64

	mu      sync.Mutex
	lastErr error
}

// Stats returns what the client knows now. It asks nobody.
func (c *Client) Stats() Stats {
	s := Stats{
		Addr: c.addr, Up: c.health.up.Load(), Latency: time.Duration(c.health.latency.Load()),
		Acquired: c.health.acquired.Load(), Lost: c.health.lost.Load(),
		Expired: c.health.expired.Load(), Stolen: c.health.stolen.Load(), Forced: c.health.forced.Load(),
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

// countLost counts a lock lost for reason.
func (c *Client) countLost(reason error) {
	c.health.lost.Add(1)
	switch {
	case errors.Is(reason, ErrExpired):
		c.health.expired.Add(1)
	case errors.Is(reason, ErrStolen):
		c.health.stolen.Add(1)
	case errors.Is(reason, ErrForced):
		c.health.forced.Add(1)
	}
}

// heard takes note of the outcome of a call under ctx.
func (c *Client) heard(ctx context.Context, err error) {
	if err != nil {
		c.heardError(ctx, err)
		return
	}
	c.gate.answered()
	c.health.answered.Store(int64(time.Since(began)))
	if c.health.troubled.Load() {
		c.turn(true, nil)
	}
}

func (c *Client) heardError(ctx context.Context, err error) {
	var u *UnavailableError
	if !errors.As(err, &u) || errors.Is(context.Cause(ctx), context.Canceled) {
		return // not Redis's fault
	}
	if u.Cause == CausePassword {
		c.gate.failed(u.Err)
	} else if u.replied() {
		c.gate.answered()
	}
	switch {
	case u.Cause == CauseWrongType: // one key's trouble
	case u.Cause == CauseTimeout && c.sinceAnswer() < pingEvery*3/2:
		// A question of long ago, on a connection that is no more.
	case u.replied() && u.Cause != CausePassword && u.Cause != CauseLoading:
		c.turn(true, err) // it is there, and refuses
	default:
		c.turn(false, err)
	}
}

// sinceAnswer is how long ago Redis answered anything.
func (c *Client) sinceAnswer() time.Duration {
	return time.Since(began) - time.Duration(c.health.answered.Load())
}

// calling reports whether something is being asked.
func (c *Client) calling() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running > 1 // the health's own goroutine is one
}

// turn keeps whether Redis is up, and what is wrong with it, and tells when it
// goes or comes back.
func (c *Client) turn(up bool, err error) {
	h := &c.health
	h.mu.Lock()
	known := h.told.Swap(true)
	first, changed := !known, !known || h.up.Load() != up
	h.lastErr = err
	h.up.Store(up)
	h.troubled.Store(err != nil)
	if changed && !c.closing.Load() {
		// In here, so that events have the order of what happened.
		if up {
			c.events.send(Event{Type: RedisUp})
		} else {
			c.events.send(Event{Type: RedisDown, Reason: err.Error()})
		}
	}
	h.mu.Unlock()
	switch {
	case !changed || c.closing.Load():
	case !up:
		c.cfg.Logger.Warn("redis is down", "addr", c.addr, "err", err)
	case !first:
		c.cfg.Logger.Info("redis is back", "addr", c.addr)
		c.askAgain(nil) // rather than when their pauses are over
	}
}

// watchHealth pings Redis, also when nothing else is asked of it. A ping that
// takes its time is not given up, for that would cost its connection: Redis is
// down until it answers, and meanwhile a second one tries another.
func (c *Client) watchHealth() {
	// A process that begins with a question needs no ping beside it.
	t := time.NewTimer(firstPing)
	defer t.Stop()
	start, asleep := time.Now(), suspended()
	var asked []time.Time // the pings under way
	answers := make(chan time.Time, maxPings)
	for {
		select {
		case <-c.life.Done():
			return
		case at := <-answers:
			asked = slices.DeleteFunc(asked, at.Equal)
			continue
		case <-t.C:
		}
		if s := suspended(); s-asleep > minSleep {
			asleep = s
			slept.Store(int64(s))
			c.wokeUp()
		}
		if len(asked) == 0 && time.Since(start) < pingTimeout && !c.health.told.Load() && c.calling() {
			t.Reset(firstPing)
			continue
		}
		c.questions.age()
		patience := max(pingTimeout, 3*time.Duration(c.health.latency.Load()))
		late := len(asked) > 0 && time.Since(asked[0]) >= patience
		if late {
			c.heard(c.life, explain(c.addr, fmt.Errorf("ping: no answer within %v: %w", patience, context.DeadlineExceeded)))
		}
		if len(asked) == 0 && c.health.up.Load() && c.health.latency.Load() > 0 && c.sinceAnswer() < pingEvery*3/2 {
			// Something else was answered.
		} else if len(asked) == 0 || late && len(asked) < maxPings {
			at := time.Now()
			asked = append(asked, at)
			c.background(func() {
				c.ping()
				answers <- at
			})
		}
		pause := pingEvery
		if !c.health.up.Load() {
			pause /= 2
		}
		t.Reset(pause + jitter(pause/10))
	}
}

func (c *Client) ping() {
	start := time.Now()
	err := c.calls.Ping(c.life).Err()
	if err == nil {
		took := int64(time.Since(start))
		c.health.latency.Store(took)
		c.health.answered.Store(int64(time.Since(began)))
	}
	if redis.HasErrorPrefix(err, "NOPERM") {
		err = nil // it answers; a user without the right to ping may still lock
	}
	if err == nil && c.health.up.Load() {
		c.gate.answered()
		return // a ping does not show that what was refused would be done now
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
	c.wake(held)
}

// backoff is the pause after a failed attempt: longer each time, up to a second
// and a half, and never the same for two clients.
func (c *Client) backoff(attempt int) time.Duration {
	d := min(100*time.Millisecond<<min(attempt, 4), time.Second)
	if attempt >= slowly {
		d = 20 * time.Second
	}
	return d/2 + jitter(d)
}

// jitter returns a random duration below d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
